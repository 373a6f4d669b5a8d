/** Work offered to this agent: what is open, and saying yes or no in time. */

import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import type { FeedEvent, Offer, Page } from '../../shared/api'
import { ApiError } from '../../shared/http'
import { i18n } from '../i18n'
import { useClock } from './clock'
import { api } from './http'
import { useLive } from './live'
import { useNotices } from './notices'
import { useSession } from './session'

export const useOffers = defineStore('offers', () => {
  const all = ref<Offer[]>([])
  const busy = ref<number | null>(null)
  const clock = useClock()

  /** Open ones, most urgent first. An offer past its deadline is gone even before the server says so. */
  const open = computed(() =>
    all.value
      .filter((o) => o.state === 'open' && Date.parse(o.expires_at) > clock.now - 1500)
      .sort((a, b) => Date.parse(a.expires_at) - Date.parse(b.expires_at)),
  )

  async function load(): Promise<void> {
    try {
      const answer = await api.get<Page<Offer> | Offer[]>('/me/offers')
      all.value = Array.isArray(answer) ? answer : answer.items
    } catch (error) {
      useNotices().fail(error)
    }
  }

  function put(offer: Offer): void {
    all.value = [...all.value.filter((o) => o.id !== offer.id), offer].slice(-50)
  }

  function settle(id: number, state: Offer['state']): void {
    all.value = all.value.map((o) => (o.id === id ? { ...o, state } : o))
  }

  function onEvent(event: FeedEvent): void {
    if (!event.kind.startsWith('offer.')) return
    const offer = (event.data['offer'] ?? (event.data['expires_at'] ? event.data : null)) as Offer | null
    const id = offer?.id ?? (event.data['offer_id'] as number | undefined) ?? event.subject?.id
    if (event.kind === 'offer.made') {
      if (offer?.expires_at) {
        if (offer.agent_id === useSession().agent?.id) put({ ...offer, state: 'open' })
      } else {
        void load()
      }
    } else if (id !== undefined) {
      settle(id, event.kind.slice(6) as Offer['state'])
    }
  }

  /** Says yes. Returns the inquiry to open, if there is one. */
  async function accept(offer: Offer): Promise<number | null> {
    if (busy.value !== null) return null
    busy.value = offer.id
    try {
      const assignment = await api.post<{ inquiry_id?: number | null }>(`/offers/${offer.id}/accept`)
      settle(offer.id, 'accepted')
      return assignment?.inquiry_id ?? offer.inquiry?.id ?? offer.callback?.inquiry_id ?? null
    } catch (error) {
      if (error instanceof ApiError && error.status === 410) {
        settle(offer.id, 'expired')
        const taken = error.code === 'offer_taken'
        useNotices().say(i18n.global.t(taken ? 'offers.taken' : 'offers.expired'), 'plain')
      } else {
        useNotices().fail(error)
      }
      return null
    } finally {
      busy.value = null
    }
  }

  async function decline(offer: Offer): Promise<void> {
    settle(offer.id, 'declined')
    try {
      await api.post(`/offers/${offer.id}/decline`, {})
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 410)) useNotices().fail(error)
    }
  }

  function listen(): () => void {
    return useLive().on(onEvent, () => void load())
  }

  return { open, busy, load, accept, decline, listen }
})
