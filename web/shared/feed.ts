/**
 * The live feed's client: one WebSocket that resumes after its last cursor for as long as the desk is open.
 *
 * Owns connecting, resuming, answering heartbeats and noticing a dead line. It does not know what the events mean.
 * The server's `reset` (our cursor is too old to resume) is handed on so that stores fetch everything anew.
 */

import { Backoff } from './backoff'
import type { FeedEvent, PresenceKind } from './api'
import { browserTimers, type SocketFactory, type SocketLike, type Timers } from './timers'

export type FeedState = 'connecting' | 'live' | 'waiting' | 'closed' | 'unauthenticated'

export interface FeedOptions {
  /** The feed's address without a query, e.g. `wss://desk.example/api/v1/feed`. */
  url: string
  after: string | number | null
  onEvent: (event: FeedEvent) => void
  onReset: () => void
  onState: (state: FeedState) => void
  socket?: SocketFactory
  timers?: Timers
  random?: () => number
  /** A line silent for longer than this is dead, milliseconds. The server pings about every 25 s. */
  silenceMs?: number
}

interface Frame {
  type: string
  cursor?: string | number
}

export class FeedClient {
  private cursor: string | number | null
  private socket: SocketLike | null = null
  private retry: number | null = null
  private watchdog: number | null = null
  private stopped = true
  private readonly backoff: Backoff
  private readonly timers: Timers

  constructor(private readonly options: FeedOptions) {
    this.cursor = options.after
    this.timers = options.timers ?? browserTimers
    this.backoff = new Backoff({ minMs: 1000, maxMs: 30_000, random: options.random })
  }

  start(): void {
    if (!this.stopped) return
    this.stopped = false
    this.connect()
  }

  stop(): void {
    this.stopped = true
    this.cancelTimers()
    this.drop(1000)
    this.options.onState('closed')
  }

  /** The browser came online or the tab became visible: do not sit out a long delay. */
  nudge(): void {
    this.backoff.reset()
    if (this.stopped || this.retry === null) return
    this.timers.clear(this.retry)
    this.retry = null
    this.connect()
  }

  /** The browser says the network is gone: the socket itself may not notice for a minute. */
  lost(): void {
    if (this.stopped || this.socket === null) return
    this.drop(4000)
    this.closed(4000)
  }

  get lastCursor(): string | number | null {
    return this.cursor
  }

  typing(inquiryId: number): void {
    this.send({ type: 'typing', inquiry_id: inquiryId })
  }

  presence(presence: PresenceKind): void {
    this.send({ type: 'presence', presence })
  }

  private connect(): void {
    this.options.onState('connecting')
    const query = this.cursor === null ? '' : `?after=${encodeURIComponent(String(this.cursor))}`
    const make = this.options.socket ?? ((url) => new WebSocket(url))
    let socket: SocketLike
    try {
      socket = make(this.options.url + query)
    } catch {
      this.later()
      return
    }
    this.socket = socket
    this.listenForSilence()
    socket.onmessage = (message) => {
      if (this.socket !== socket) return
      this.listenForSilence()
      this.receive(message.data)
    }
    socket.onclose = (event) => {
      if (this.socket !== socket) return
      this.socket = null
      this.closed(event.code)
    }
    socket.onerror = null
  }

  private receive(raw: unknown): void {
    let frame: Frame
    try {
      frame = JSON.parse(String(raw)) as Frame
    } catch {
      return // A frame that is not JSON is the server's fault; the next resume brings what it meant.
    }
    switch (frame.type) {
      case 'hello':
        this.backoff.reset()
        if (this.cursor === null && frame.cursor !== undefined) this.cursor = frame.cursor
        this.options.onState('live')
        break
      case 'ping':
        this.send({ type: 'pong' })
        break
      case 'reset':
        if (frame.cursor !== undefined) this.cursor = frame.cursor
        this.options.onReset()
        break
      case 'event': {
        const event = frame as unknown as FeedEvent
        // Typing is not stored and must not move the cursor.
        if (event.cursor !== undefined && event.cursor !== null) this.cursor = event.cursor
        this.options.onEvent(event)
        break
      }
    }
  }

  private closed(code: number): void {
    this.cancelTimers()
    if (this.stopped) return
    if (code === 4401) {
      this.stopped = true
      this.options.onState('unauthenticated')
      return
    }
    // 4408: the server dropped us as a slow reader; everything since our cursor is still there, so come back soon.
    if (code === 4408) this.backoff.reset()
    this.later()
  }

  private later(): void {
    this.options.onState('waiting')
    this.retry = this.timers.set(() => {
      this.retry = null
      this.connect()
    }, this.backoff.next())
  }

  private listenForSilence(): void {
    if (this.watchdog !== null) this.timers.clear(this.watchdog)
    this.watchdog = this.timers.set(() => {
      this.watchdog = null
      this.drop(4000)
      this.closed(4000)
    }, this.options.silenceMs ?? 75_000)
  }

  private drop(code: number): void {
    const socket = this.socket
    this.socket = null
    if (socket === null) return
    socket.onmessage = null
    socket.onclose = null
    try {
      socket.close(code)
    } catch {
      // Closing a socket that never opened may throw; it is gone either way.
    }
  }

  private cancelTimers(): void {
    if (this.retry !== null) this.timers.clear(this.retry)
    if (this.watchdog !== null) this.timers.clear(this.watchdog)
    this.retry = null
    this.watchdog = null
  }

  private send(frame: object): void {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(frame))
  }
}
