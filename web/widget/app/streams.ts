/**
 * The three ways to hear the chat server, one shape: WebSocket, then server-sent events, then long polling.
 *
 * Each opens once, reports frames, and reports its end once. Deciding when to open again is the client's business.
 */

import type { SocketFactory, Timers } from '../../shared/timers'
import type { ServerFrame } from './protocol'

export type StreamKind = 'socket' | 'sse' | 'poll'

export interface StreamEnd {
  /** WebSocket close code, or 4401 when an HTTP transport was answered 401; 0 for a plain failure. */
  code: number
  retryAfterMs?: number
}

export interface StreamHandlers {
  onFrame(frame: ServerFrame): void
  onEnd(end: StreamEnd): void
}

export interface Stream {
  readonly kind: StreamKind
  /** Says a frame; false when this transport can only listen. */
  send(frame: object): boolean
  close(): void
}

export interface StreamContext {
  /** Base address, `https://host/chat/v1`. */
  base: string
  session: string
  after: () => number
  timers: Timers
  socket: SocketFactory
  fetcher: typeof fetch
}

const PING_MS = 25_000
const DEAD_MS = 60_000

export function openSocket(context: StreamContext, handlers: StreamHandlers): Stream {
  const url = context.base.replace(/^http/, 'ws') + '/stream'
  const { timers } = context
  let ended = false
  let ping: number | null = null
  let dead: number | null = null
  const end = (code: number): void => {
    if (ended) return
    ended = true
    if (ping !== null) timers.clear(ping)
    if (dead !== null) timers.clear(dead)
    handlers.onEnd({ code })
  }
  const socket = context.socket(url)
  const watch = (): void => {
    if (dead !== null) timers.clear(dead)
    dead = timers.set(() => {
      end(4000)
      socket.close(4000)
    }, DEAD_MS)
  }
  const beat = (): void => {
    ping = timers.set(() => {
      if (socket.readyState === 1) socket.send('{"type":"ping"}')
      beat()
    }, PING_MS)
  }
  watch()
  socket.onopen = () => {
    socket.send(JSON.stringify({ type: 'auth', session: context.session, after: context.after() }))
    beat()
  }
  socket.onmessage = (message) => {
    if (ended) return
    watch()
    const frame = parse(message.data)
    if (frame?.type === 'ping') socket.send('{"type":"pong"}')
    else if (frame) handlers.onFrame(frame)
  }
  socket.onclose = (event) => end(event.code)
  return {
    kind: 'socket',
    send(frame) {
      if (ended || socket.readyState !== 1) return false
      socket.send(JSON.stringify(frame))
      return true
    },
    close() {
      ended = true
      if (ping !== null) timers.clear(ping)
      if (dead !== null) timers.clear(dead)
      socket.close(1000)
    },
  }
}

/** Server-sent events read through `fetch`, because `EventSource` cannot carry the Authorization header. */
export function openSse(context: StreamContext, handlers: StreamHandlers): Stream {
  const abort = new AbortController()
  let ended = false
  const end = (code: number): void => {
    if (ended) return
    ended = true
    handlers.onEnd({ code })
  }
  void (async () => {
    try {
      const after = context.after()
      const response = await context.fetcher(`${context.base}/events?after=${after}`, {
        headers: {
          Authorization: `Bearer ${context.session}`,
          Accept: 'text/event-stream',
          'Last-Event-ID': String(after),
        },
        signal: abort.signal,
      })
      if (!response.ok || !response.body) return end(response.status === 401 ? 4401 : 0)
      handlers.onFrame({ type: 'ready', cursor: after })
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
      const parser = new SseParser()
      for (;;) {
        const { value, done } = await reader.read()
        if (done || ended) break
        for (const frame of parser.push(value)) handlers.onFrame(frame)
      }
      end(1001)
    } catch {
      end(0)
    }
  })()
  return {
    kind: 'sse',
    send: () => false,
    close() {
      ended = true
      abort.abort()
    },
  }
}

export function openPoll(context: StreamContext, handlers: StreamHandlers): Stream {
  const abort = new AbortController()
  let ended = false
  void (async () => {
    let first = true
    while (!ended) {
      try {
        const response = await context.fetcher(`${context.base}/poll?after=${context.after()}&wait=${first ? 0 : 25}`, {
          headers: { Authorization: `Bearer ${context.session}` },
          signal: abort.signal,
        })
        if (ended) return
        if (!response.ok) {
          ended = true
          return handlers.onEnd({ code: response.status === 401 ? 4401 : 0 })
        }
        const body = (await response.json()) as { items?: unknown[]; events?: unknown[]; cursor?: number; reset?: boolean }
        if (first) handlers.onFrame({ type: 'ready', cursor: context.after() })
        first = false
        for (const item of body.items ?? body.events ?? []) {
          handlers.onFrame({ type: 'message', ...(item as object) } as ServerFrame)
        }
        if (body.reset) {
          // What follows is asked for after the thread was fetched anew, by the next connection.
          ended = true
          handlers.onFrame({ type: 'reset', cursor: body.cursor ?? 0 })
          return handlers.onEnd({ code: 4408 })
        }
      } catch {
        if (ended) return
        ended = true
        return handlers.onEnd({ code: 0 })
      }
    }
  })()
  return {
    kind: 'poll',
    send: () => false,
    close() {
      ended = true
      abort.abort()
    },
  }
}

/** Cuts a text/event-stream into frames, whatever the pieces it arrives in. */
export class SseParser {
  private rest = ''

  push(piece: string): ServerFrame[] {
    this.rest = this.rest + piece.replaceAll('\r', '') // A pair of CR and LF may be cut in two.
    const frames: ServerFrame[] = []
    let cut = this.rest.indexOf('\n\n')
    while (cut >= 0) {
      const frame = this.block(this.rest.slice(0, cut))
      if (frame) frames.push(frame)
      this.rest = this.rest.slice(cut + 2)
      cut = this.rest.indexOf('\n\n')
    }
    return frames
  }

  private block(text: string): ServerFrame | null {
    let name = 'message'
    const data: string[] = []
    for (const line of text.split('\n')) {
      if (line.startsWith('event:')) name = line.slice(6).trim()
      else if (line.startsWith('data:')) data.push(line.slice(5).replace(/^ /, ''))
    }
    if (!data.length) return null
    const frame = parse(data.join('\n'))
    return frame ? ({ ...frame, type: frame.type ?? name } as ServerFrame) : null
  }
}

function parse(raw: unknown): ServerFrame | null {
  try {
    const value: unknown = JSON.parse(String(raw))
    return typeof value === 'object' && value !== null ? (value as ServerFrame) : null
  } catch {
    return null
  }
}
