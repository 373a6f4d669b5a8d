/**
 * The desk's one feed connection and who listens to it.
 *
 * Stores and screens subscribe with `on`; `onReset` is called when everything must be fetched anew. Nothing here
 * interprets an event.
 */

import { defineStore } from 'pinia'
import { ref } from 'vue'
import type { FeedEvent } from '../../shared/api'
import { FeedClient, type FeedState } from '../../shared/feed'

type Listener = (event: FeedEvent) => void

export const useLive = defineStore('live', () => {
  const state = ref<FeedState>('closed')
  const listeners = new Set<Listener>()
  const resets = new Set<() => void>()
  let client: FeedClient | null = null
  let onLoggedOut: (() => void) | null = null

  const nudge = (): void => client?.nudge()
  const lost = (): void => client?.lost()
  const onVisible = (): void => {
    if (document.visibilityState === 'visible') nudge()
  }

  function start(cursor: string | number | null, loggedOut: () => void): void {
    stop()
    onLoggedOut = loggedOut
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws'
    client = new FeedClient({
      url: `${scheme}://${location.host}/api/v1/feed`,
      after: cursor,
      onEvent: (event) => {
        for (const listener of listeners) listener(event)
      },
      onReset: () => {
        for (const reset of resets) reset()
      },
      onState: (next) => {
        state.value = next
        if (next === 'unauthenticated') onLoggedOut?.()
      },
    })
    addEventListener('online', nudge)
    addEventListener('offline', lost)
    document.addEventListener('visibilitychange', onVisible)
    client.start()
  }

  function stop(): void {
    removeEventListener('online', nudge)
    removeEventListener('offline', lost)
    document.removeEventListener('visibilitychange', onVisible)
    client?.stop()
    client = null
  }

  /** Subscribes; the answer unsubscribes. */
  function on(listener: Listener, reset?: () => void): () => void {
    listeners.add(listener)
    if (reset) resets.add(reset)
    return () => {
      listeners.delete(listener)
      if (reset) resets.delete(reset)
    }
  }

  function typing(inquiryId: number): void {
    client?.typing(inquiryId)
  }

  return { state, start, stop, on, typing }
})
