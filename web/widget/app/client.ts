/**
 * The chat's brain: session, stream, resume, outbox. No drawing, no browser globals except those handed in.
 *
 * Promises: a message of the visitor is said with one `client_id` until the server acknowledges it, over any number
 * of reconnects and transports; a message of the server is shown once; nothing is asked twice that `seq` answers.
 */

import { Backoff } from '../../shared/backoff'
import { browserTimers, uuid, type SocketFactory, type Timers } from '../../shared/timers'
import { ChatLog } from './log'
import {
  ChatError,
  type Bubble,
  type ChatAttachment,
  type ChatConfig,
  type MessageEventFrame,
  type Outgoing,
  type ServerFrame,
  type SessionAnswer,
} from './protocol'
import { openPoll, openSocket, openSse, type Stream, type StreamEnd, type StreamKind } from './streams'

export interface VisitorStore {
  token(): string | null
  keepToken(token: string | null): void
  outbox(): Outgoing[]
  keepOutbox(messages: Outgoing[]): void
}

export interface ChatOptions {
  base: string
  inboxKey: string
  store: VisitorStore
  page?: string
  referrer?: string
  utm?: Record<string, string>
  locale?: string
  identityJwt?: string | null
  onChange: () => void
  onToken?: (token: string) => void
  socket?: SocketFactory
  fetcher?: typeof fetch
  timers?: Timers
  random?: () => number
  now?: () => number
}

export type Phase = 'starting' | 'form' | 'chat' | 'refused'
export type Link = 'connecting' | 'live' | 'offline'

const ACK_MS = 20_000
const TYPING_EVERY_MS = 3000
const TYPING_SHOWN_MS = 6000
/** A fetch of the whole conversation: this many messages a page, this many pages at most. */
const PAGE = 200
const MAX_PAGES = 50
const LADDER: StreamKind[] = ['socket', 'sse', 'poll']

export class ChatClient {
  phase: Phase = 'starting'
  link: Link = 'connecting'
  config: ChatConfig = {}
  /** Why the server will not talk to us (`phase` refused). */
  problem: string | null = null
  typingName: string | null = null
  joinedName: string | null = null
  readonly log = new ChatLog()

  private session: string | null = null
  private stream: Stream | null = null
  private rung = 0
  private failedOpenings = 0
  private stopped = false
  private retryTimer: number | null = null
  private ackTimer: number | null = null
  private typingTimer: number | null = null
  private lastTypingAt = -Infinity
  private readSent = 0
  private posting = false
  private readonly backoff: Backoff
  private readonly timers: Timers
  private readonly fetcher: typeof fetch
  private readonly now: () => number

  constructor(private readonly options: ChatOptions) {
    this.backoff = new Backoff({ minMs: 1000, maxMs: 30_000, random: options.random })
    this.timers = options.timers ?? browserTimers
    this.fetcher = options.fetcher ?? ((...args) => fetch(...args))
    this.now = options.now ?? (() => Date.now())
    for (const out of options.store.outbox()) this.log.say(out)
  }

  /** Opens the session and, unless a form must be filled first, the stream. Resolves when the phase is known. */
  async start(fields?: Record<string, unknown>): Promise<void> {
    if (this.stopped) return
    try {
      const answer = await this.openSession(fields)
      this.session = answer.session
      this.config = answer.config ?? {}
      this.options.store.keepToken(answer.visitor_token)
      this.options.onToken?.(answer.visitor_token)
      const askFirst = (this.config.pre_chat?.length ?? 0) > 0 && answer.conversation_id === null && !fields
      if (askFirst && this.log.unsent().length === 0) {
        this.phase = 'form'
        this.link = 'live'
      } else {
        this.phase = 'chat'
        this.connect()
      }
    } catch (error) {
      this.sessionFailed(error, fields)
    }
    this.changed()
  }

  /** The visitor filled the form. Throws `ChatError` for the form to show; the phase stays until it succeeds. */
  async submitForm(fields: Record<string, unknown>): Promise<void> {
    const answer = await this.openSession(fields)
    this.session = answer.session
    this.config = { ...this.config, ...answer.config }
    this.options.store.keepToken(answer.visitor_token)
    this.options.onToken?.(answer.visitor_token)
    this.phase = 'chat'
    this.connect()
    this.changed()
  }

  stop(): void {
    this.stopped = true
    this.stream?.close()
    this.stream = null
    for (const timer of [this.retryTimer, this.ackTimer, this.typingTimer]) if (timer !== null) this.timers.clear(timer)
    this.retryTimer = this.ackTimer = this.typingTimer = null
  }

  /** The browser is online or visible again. */
  nudge(): void {
    this.backoff.reset()
    if (this.stopped || this.retryTimer === null) return
    this.timers.clear(this.retryTimer)
    this.retryTimer = null
    if (this.session === null) void this.start()
    else this.connect()
  }

  /** The browser says the network is gone. The socket may not notice for minutes; the visitor should know now. */
  lost(): void {
    if (this.stopped || this.phase !== 'chat' || this.link === 'offline') return
    this.stream?.close()
    this.stream = null
    this.ended({ code: 0 }, true)
  }

  say(text: string, extra: { action?: string; attachments?: ChatAttachment[] } = {}): string {
    const out: Outgoing = { client_id: uuid(), text, at: new Date(this.now()).toISOString() }
    if (extra.action !== undefined) out.action = extra.action
    if (extra.attachments?.length) out.attachments = extra.attachments
    this.log.say(out)
    this.keep()
    this.transmit(out)
    this.changed()
    return out.client_id
  }

  retry(clientId: string): void {
    const out = this.log.retry(clientId)
    if (out) this.transmit(out)
    this.changed()
  }

  typing(): void {
    if (this.now() - this.lastTypingAt < TYPING_EVERY_MS) return
    if (this.stream?.send({ type: 'typing' })) this.lastTypingAt = this.now()
  }

  /** The visitor has seen everything shown. */
  seen(): void {
    const seq = this.log.lastSeq
    if (seq <= this.readSent || this.link !== 'live' || this.stream === null) return
    this.readSent = seq
    if (!this.stream.send({ type: 'read', seq })) void this.request('POST', '/read', { seq }).catch(() => undefined)
  }

  async upload(file: File): Promise<ChatAttachment> {
    const form = new FormData()
    form.append('file', file, file.name)
    return this.request<ChatAttachment>('POST', '/uploads', form)
  }

  /** A file of the conversation; the session goes only to our own server. */
  async download(url: string): Promise<Blob> {
    const absolute = new URL(url, this.options.base)
    const own = absolute.origin === new URL(this.options.base).origin
    const response = await this.fetcher(absolute.href, own ? { headers: this.auth() } : {})
    if (!response.ok) throw new ChatError(response.status, 'download', `${response.status}`)
    return response.blob()
  }

  bubbles(): Bubble[] {
    return this.log.bubbles()
  }

  private async openSession(fields?: Record<string, unknown>): Promise<SessionAnswer> {
    const { inboxKey, store, page, referrer, utm, locale, identityJwt } = this.options
    const body: Record<string, unknown> = { inbox_key: inboxKey }
    const token = store.token()
    if (token) body['visitor_token'] = token
    if (identityJwt) body['identity_jwt'] = identityJwt
    if (page) body['page'] = page
    if (referrer) body['referrer'] = referrer
    if (utm && Object.keys(utm).length) body['utm'] = utm
    if (locale) body['locale'] = locale.replace(/[^A-Za-z0-9-]/g, '-').slice(0, 20)
    if (fields) body['fields'] = fields
    return this.request<SessionAnswer>('POST', '/session', body)
  }

  /** What we were told about opening hours at the beginning is over when somebody answers. */
  private agentIsHere(): void {
    if (this.config.team_online === false) this.config = { ...this.config, team_online: true }
  }

  /** Not a message of the past that comes with the thread. */
  private isFresh(at: string): boolean {
    return this.now() - Date.parse(at) < 60_000
  }

  private sessionFailed(error: unknown, fields?: Record<string, unknown>): void {
    const chatError = error instanceof ChatError ? error : null
    const status = chatError?.status ?? 0
    // A stale or forged token must not lock the visitor out: begin as a new one, once.
    if ((status === 401 || chatError?.code === 'bad_visitor_token') && this.options.store.token() !== null) {
      this.options.store.keepToken(null)
      void this.start(fields)
      return
    }
    if (status >= 400 && status < 500 && status !== 429 && status !== 408) {
      this.phase = 'refused'
      this.problem = chatError?.message ?? null
      return
    }
    this.session = null
    this.link = 'offline'
    this.later(() => void this.start(fields), chatError?.retryAfterMs ?? null)
  }

  private connect(): void {
    if (this.stopped || this.session === null) return
    this.link = this.link === 'live' ? 'live' : 'connecting'
    let opened = false
    const kind = LADDER[this.rung]!
    const open = kind === 'socket' ? openSocket : kind === 'sse' ? openSse : openPoll
    const context = {
      base: this.options.base,
      session: this.session,
      after: () => this.log.cursor,
      timers: this.timers,
      socket: this.options.socket ?? ((url: string) => new WebSocket(url)),
      fetcher: this.fetcher,
    }
    const handlers = {
      onFrame: (frame: ServerFrame) => {
        if (frame.type === 'ready') opened = true
        this.receive(frame)
      },
      onEnd: (end: StreamEnd) => {
        this.stream = null
        this.ended(end, opened)
      },
    }
    try {
      this.stream = open(context, handlers)
    } catch {
      this.ended({ code: 0 }, false)
    }
  }

  private ended(end: StreamEnd, opened: boolean): void {
    if (this.stopped) return
    this.link = 'offline'
    if (opened) this.failedOpenings = 0
    if (end.code === 4401) {
      this.session = null
      this.later(() => void this.start(), null)
    } else {
      if (!opened) {
        this.failedOpenings += 1
        // Two openings in a row that came to nothing: something on the way does not like this transport.
        if (this.failedOpenings % 2 === 0) this.rung = (this.rung + 1) % LADDER.length
      }
      if (end.code === 4408) this.backoff.reset()
      this.later(() => this.connect(), end.retryAfterMs ?? null)
    }
    this.changed()
  }

  private later(action: () => void, atLeastMs: number | null): void {
    if (this.stopped) return
    if (this.retryTimer !== null) this.timers.clear(this.retryTimer)
    this.retryTimer = this.timers.set(() => {
      this.retryTimer = null
      action()
    }, Math.max(this.backoff.next(), atLeastMs ?? 0))
  }

  private receive(frame: ServerFrame): void {
    switch (frame.type) {
      case 'ready':
        this.link = 'live'
        this.backoff.reset()
        for (const out of this.log.unacknowledged()) this.transmit(out)
        break
      case 'message':
        this.log.receive(frame)
        if (frame.direction === 'out') this.typingName = null
        if (frame.direction === 'out' && frame.author?.kind === 'agent' && this.isFresh(frame.at)) this.agentIsHere()
        this.keep()
        break
      case 'ack':
        this.log.ack(frame.client_id, frame.seq)
        this.keep()
        this.watchAcks()
        break
      case 'error':
        if (frame.client_id) this.refused(frame.client_id, frame)
        break
      case 'status':
        this.log.status(frame.message_seq, frame.state)
        break
      case 'read':
        this.log.readUpTo(frame.seq)
        break
      case 'edit':
        if (frame.deleted) this.log.remove(frame.message_seq ?? frame.seq ?? 0)
        else this.log.edit(frame.message_seq ?? frame.seq ?? 0, frame)
        break
      case 'delete':
        this.log.remove(frame.message_seq ?? frame.seq ?? 0)
        break
      case 'typing':
        this.typingName = frame.name ?? ''
        if (this.typingTimer !== null) this.timers.clear(this.typingTimer)
        this.typingTimer = this.timers.set(() => {
          this.typingName = null
          this.changed()
        }, TYPING_SHOWN_MS)
        break
      case 'agent_joined':
        this.joinedName = frame.name ?? null
        this.agentIsHere()
        break
      case 'reset':
        void this.refetch(frame.cursor)
        break
    }
    this.changed()
  }

  /** Refused for being too fast is said again by itself, when the server said it may; the rest is the visitor's to judge. */
  private refused(clientId: string, error: { code: string; detail?: string; retry_after_s?: number }): void {
    if (!error.retry_after_s || error.retry_after_s > 60) return this.log.refuse(clientId, error.detail || error.code)
    this.timers.set(() => {
      if (!this.stopped && this.log.isPending(clientId)) this.retry(clientId)
    }, error.retry_after_s * 1000)
  }

  private async refetch(cursor: number): Promise<void> {
    try {
      const found: MessageEventFrame[] = []
      let after = 0
      for (let page = 0; page < MAX_PAGES; page += 1) {
        const body = await this.request<{ items: MessageEventFrame[]; cursor: number }>('GET', `/messages?after=${after}&limit=${PAGE}`)
        found.push(...body.items)
        after = Math.max(after, body.cursor ?? 0)
        if (body.items.length < PAGE) break
      }
      this.log.reset()
      for (const item of found) this.log.receive({ ...item, type: 'message' })
      this.log.cursor = Math.max(this.log.cursor, cursor, after)
    } catch {
      // Keep what is shown; the next reconnect asks from the old cursor and is told to reset again.
    }
    this.changed()
  }

  private transmit(out: Outgoing): void {
    if (this.link !== 'live' || this.stream === null) return
    if (this.stream.kind === 'socket') {
      this.stream.send({ type: 'message', ...wire(out) })
      this.watchAcks()
    } else {
      void this.postAll()
    }
  }

  /** Says the outbox by POST, in order, one at a time: order of words matters more than speed here. */
  private async postAll(): Promise<void> {
    if (this.posting) return
    this.posting = true
    try {
      for (let out = this.log.unacknowledged()[0]; out; out = this.log.unacknowledged()[0]) {
        try {
          const answer = await this.request<{ client_id: string; seq: number }>('POST', '/messages', wire(out))
          this.log.ack(out.client_id, answer.seq)
        } catch (error) {
          const status = error instanceof ChatError ? error.status : 0
          if (status === 0 || status >= 500 || status === 401) break // The stream's end or next start tries again.
          this.log.refuse(out.client_id, (error as Error).message)
        }
        this.keep()
        this.changed()
      }
    } finally {
      this.posting = false
    }
  }

  /** A socket that takes words and never acknowledges them is broken: drop it, the next one says them again. */
  private watchAcks(): void {
    if (this.ackTimer !== null) this.timers.clear(this.ackTimer)
    this.ackTimer = null
    if (this.log.unacknowledged().length === 0) return
    this.ackTimer = this.timers.set(() => {
      this.ackTimer = null
      if (this.stream?.kind !== 'socket' || this.log.unacknowledged().length === 0) return
      this.stream.close()
      this.stream = null
      this.ended({ code: 4000 }, true)
    }, ACK_MS)
  }

  private async request<T>(method: string, path: string, body?: unknown): Promise<T> {
    const headers: Record<string, string> = path === '/session' ? {} : { ...this.auth() }
    let payload: BodyInit | undefined
    if (body instanceof FormData) payload = body
    else if (body !== undefined) {
      headers['Content-Type'] = 'application/json'
      payload = JSON.stringify(body)
    }
    let response: Response
    try {
      response = await this.fetcher(this.options.base + path, { method, headers, body: payload, credentials: 'omit' })
    } catch {
      throw new ChatError(0, 'unreachable', '')
    }
    const answer = (await response.json().catch(() => null)) as Record<string, unknown> | null
    if (response.ok && (answer !== null || response.status === 204)) return answer as T
    const after = Number(response.headers.get('Retry-After'))
    throw new ChatError(
      response.status,
      String(answer?.['code'] ?? response.status),
      String(answer?.['detail'] ?? answer?.['title'] ?? ''),
      after > 0 ? after * 1000 : null,
    )
  }

  private auth(): Record<string, string> {
    return this.session ? { Authorization: `Bearer ${this.session}` } : {}
  }

  private keep(): void {
    this.options.store.keepOutbox(this.log.unsent())
  }

  private changed(): void {
    if (!this.stopped) this.options.onChange()
  }
}

function wire(out: Outgoing): Record<string, unknown> {
  const frame: Record<string, unknown> = { client_id: out.client_id, text: out.text }
  if (out.action !== undefined) frame['action'] = out.action
  if (out.reply_to !== undefined) frame['reply_to'] = out.reply_to
  if (out.attachments?.length) frame['attachments'] = out.attachments.map((a) => a.id)
  return frame
}
