import { beforeEach, describe, expect, it } from 'vitest'
import { ChatClient, type VisitorStore } from '../widget/app/client'
import type { Outgoing } from '../widget/app/protocol'
import { SseParser } from '../widget/app/streams'
import { FakeHttp, FakeNet, FakeTimers, settle } from './fakes'

class Store implements VisitorStore {
  kept: string | null = null
  box: Outgoing[] = []
  token = (): string | null => this.kept
  keepToken = (token: string | null): void => void (this.kept = token)
  outbox = (): Outgoing[] => this.box
  keepOutbox = (messages: Outgoing[]): void => void (this.box = [...messages])
}

let net: FakeNet
let http: FakeHttp
let timers: FakeTimers
let store: Store

const SESSION = { session: 'S1', visitor_id: 9, visitor_token: 'V1', conversation_id: 4, cursor: 0, config: { max_text: 100 } }
const inbound = (seq: number, text: string, client_id?: string): object => ({
  type: 'message', seq, id: seq, client_id, direction: 'in', author: { kind: 'customer' }, text, at: '2026-11-22T00:00:00.000Z', state: 'sent',
})
const reply = (seq: number, text: string): object => ({
  type: 'message', seq, id: seq, direction: 'out', author: { kind: 'agent', name: 'Olena' }, text, at: '2026-11-22T00:00:01.000Z',
})

function client(extra: object = {}): ChatClient {
  return new ChatClient({
    base: 'http://desk/chat/v1', inboxKey: 'K', store, onChange: () => undefined, socket: net.make, fetcher: http.fetch, timers,
    random: () => 0.5, now: () => timers.now, ...extra,
  })
}

async function started(): Promise<ChatClient> {
  const chat = client()
  await chat.start()
  return chat
}

function ready(cursor = 0): void {
  net.last.open()
  net.last.say({ type: 'ready', cursor })
}

const said = (): Record<string, unknown>[] => net.last.sent.filter((f) => f['type'] === 'message')
const texts = (chat: ChatClient): string[] => chat.bubbles().map((b) => b.text)

beforeEach(() => {
  net = new FakeNet()
  timers = new FakeTimers()
  store = new Store()
  http = new FakeHttp().on('POST /chat/v1/session', { body: SESSION })
})

describe('the session', () => {
  it('keeps the visitor token and hands it back next time', async () => {
    await started()
    expect(store.kept).toBe('V1')
    await started()
    expect(http.to('POST /chat/v1/session')[1]!.body).toMatchObject({ inbox_key: 'K', visitor_token: 'V1' })
  })

  it('says its session in the first frame, never in the address', async () => {
    await started()
    expect(net.last.url).toBe('ws://desk/chat/v1/stream')
    net.last.open()
    expect(net.last.sent[0]).toEqual({ type: 'auth', session: 'S1', after: 0 })
  })

  it('asks the form first, and passes it on before the first word', async () => {
    http = new FakeHttp().on('POST /chat/v1/session', { body: { ...SESSION, conversation_id: null, config: { pre_chat: [{ name: 'name' }] } } }, { body: SESSION })
    const chat = await started()
    expect(chat.phase).toBe('form')
    expect(net.sockets).toHaveLength(0)
    await chat.submitForm({ name: 'Наталія' })
    expect(chat.phase).toBe('chat')
    expect(http.calls[1]!.body).toMatchObject({ visitor_token: 'V1', fields: { name: 'Наталія' } })
    expect(net.sockets).toHaveLength(1)
  })

  it('keeps the form open when the server refuses it', async () => {
    http = new FakeHttp().on('POST /chat/v1/session', { body: { ...SESSION, conversation_id: null, config: { pre_chat: ['email'] } } }, { status: 422, body: { detail: 'Not an email address', code: 'invalid' } })
    const chat = await started()
    await expect(chat.submitForm({ email: 'x' })).rejects.toThrow('Not an email address')
    expect(chat.phase).toBe('form')
  })

  it('says so when the page is not allowed to chat, and does not knock again', async () => {
    http = new FakeHttp().on('POST /chat/v1/session', { status: 403, body: { detail: 'This site may not use this chat', code: 'forbidden' } })
    const chat = await started()
    expect([chat.phase, chat.problem]).toEqual(['refused', 'This site may not use this chat'])
    timers.advance(600_000)
    expect(http.calls).toHaveLength(1)
  })

  it('begins as a new visitor when its token is no longer good', async () => {
    store.kept = 'OLD'
    http = new FakeHttp().on('POST /chat/v1/session', { status: 401, body: { code: 'bad_visitor_token', detail: 'x' } }, { body: SESSION })
    await started()
    await settle()
    expect(http.calls[1]!.body).not.toHaveProperty('visitor_token')
    expect(store.kept).toBe('V1')
  })

  it('tries again later when the server is away, not before it asked us to', async () => {
    http = new FakeHttp().on('POST /chat/v1/session', { status: 503, headers: { 'Retry-After': '12' } }, { body: SESSION })
    const chat = await started()
    expect(chat.link).toBe('offline')
    timers.advance(11_000)
    expect(http.calls).toHaveLength(1)
    timers.advance(2_000)
    await settle()
    expect(chat.phase).toBe('chat')
  })
})

describe('saying', () => {
  it('shows the words at once and replaces them by the echo', async () => {
    const chat = await started()
    ready()
    const id = chat.say('Добрий день')
    expect(chat.bubbles()).toMatchObject([{ text: 'Добрий день', state: 'sending', seq: null }])
    expect(said()).toEqual([{ type: 'message', client_id: id, text: 'Добрий день' }])
    net.last.say(inbound(1, 'Добрий день', id))
    expect(chat.bubbles()).toMatchObject([{ text: 'Добрий день', state: 'sent', seq: 1 }])
    net.last.say({ type: 'ack', client_id: id, seq: 1, duplicate: false })
    expect(chat.bubbles()).toHaveLength(1)
  })

  it('is one bubble whichever comes first, acknowledgement or echo, and with or without client_id in the echo', async () => {
    const chat = await started()
    ready()
    const id = chat.say('раз')
    net.last.say({ type: 'ack', client_id: id, seq: 1, duplicate: false })
    expect(chat.bubbles()).toMatchObject([{ state: 'sent' }])
    net.last.say(inbound(1, 'раз'))
    expect(texts(chat)).toEqual(['раз'])
  })

  it('says everything unacknowledged again after a broken line, in order, under the same ids, and nothing else', async () => {
    const chat = await started()
    ready()
    const a = chat.say('a')
    const b = chat.say('b')
    const c = chat.say('c')
    net.last.say({ type: 'ack', client_id: a, seq: 1, duplicate: false })
    net.last.say(inbound(1, 'a', a))
    net.last.drop()
    expect(chat.link).toBe('offline')
    timers.advance(30_000)
    ready(1)
    expect(said().map((f) => f['client_id'])).toEqual([b, c])
    net.last.say(inbound(2, 'b', b))
    net.last.say({ type: 'ack', client_id: b, seq: 2, duplicate: true })
    net.last.say({ type: 'ack', client_id: c, seq: 3, duplicate: false })
    net.last.say(inbound(3, 'c', c))
    expect(texts(chat)).toEqual(['a', 'b', 'c'])
    expect(store.box).toEqual([])
  })

  it('keeps words written while offline and says them once connected', async () => {
    const chat = await started()
    const id = chat.say('перше')
    expect(net.last.sent).toEqual([])
    ready()
    expect(said().map((f) => f['client_id'])).toEqual([id])
  })

  it('does not lose unsent words when the page is reloaded', async () => {
    const first = await started()
    const id = first.say('не загуби')
    first.stop()
    const second = await started()
    ready()
    expect(said()).toMatchObject([{ client_id: id, text: 'не загуби' }])
    expect(texts(second)).toEqual(['не загуби'])
  })

  it('leaves a refused message to the visitor, with the reason, and retries under the same id', async () => {
    const chat = await started()
    ready()
    const id = chat.say('!')
    net.last.say({ type: 'error', client_id: id, code: 'rate_limited', detail: 'Too fast' })
    expect(chat.bubbles()).toMatchObject([{ state: 'failed', problem: 'Too fast' }])
    net.last.drop()
    timers.advance(30_000)
    ready()
    expect(said()).toEqual([])
    chat.retry(id)
    expect(said()).toMatchObject([{ client_id: id }])
  })

  it('says again by itself what was only too fast', async () => {
    const chat = await started()
    ready()
    const id = chat.say('ще')
    net.last.say({ type: 'error', client_id: id, code: 'rate_limited', detail: 'x', retry_after_s: 3 })
    expect(chat.bubbles()).toMatchObject([{ state: 'sending' }])
    timers.advance(3_000)
    expect(said().map((f) => f['client_id'])).toEqual([id, id])
  })

  it('sends a pressed button as its value with the label as words', async () => {
    const chat = await started()
    ready()
    chat.say('Оплата', { action: 'pay' })
    expect(said()).toMatchObject([{ text: 'Оплата', action: 'pay' }])
  })

  it('drops a line that takes words and never acknowledges them', async () => {
    const chat = await started()
    ready()
    const id = chat.say('чи є хто?')
    const mute = net.last
    timers.advance(20_000)
    expect(mute.closedWith).not.toBeNull()
    timers.advance(30_000)
    ready()
    expect(net.last).not.toBe(mute)
    expect(said()).toMatchObject([{ client_id: id }])
  })
})

describe('hearing', () => {
  it('resumes after the last message heard and shows a repeated one once', async () => {
    const chat = await started()
    ready()
    net.last.say(reply(1, 'один'))
    net.last.say(reply(4, 'чотири')) // 2 and 3 are our people's notes.
    net.last.drop()
    timers.advance(30_000)
    net.last.open()
    expect(net.last.sent[0]).toMatchObject({ after: 4 })
    net.last.say(reply(4, 'чотири'))
    net.last.say(reply(5, 'п’ять'))
    expect(texts(chat)).toEqual(['один', 'чотири', 'п’ять'])
  })

  it('keeps the order of the server even when news comes out of it', async () => {
    const chat = await started()
    ready()
    net.last.say(reply(3, 'три'))
    net.last.say(reply(2, 'два'))
    expect(texts(chat)).toEqual(['два', 'три'])
  })

  it('never lets a state go back', async () => {
    const chat = await started()
    ready()
    const id = chat.say('x')
    net.last.say(inbound(1, 'x', id))
    net.last.say({ type: 'status', message_seq: 1, state: 'read' })
    net.last.say({ type: 'status', message_seq: 1, state: 'delivered' })
    expect(chat.bubbles()[0]!.state).toBe('read')
  })

  it('does not take back what it knows when a message is told again after a resume', async () => {
    const chat = await started()
    ready()
    const id = chat.say('x')
    net.last.say(inbound(1, 'x', id))
    net.last.say({ type: 'status', message_seq: 1, state: 'read' })
    net.last.say(inbound(1, 'x', id))
    expect(chat.bubbles()).toMatchObject([{ state: 'read' }])
  })

  it('fetches all anew after a reset without losing unsent words', async () => {
    http.on('GET /chat/v1/messages', { body: { items: [reply(40, 'нове')], cursor: 41 } })
    const chat = await started()
    ready()
    net.last.say(reply(1, 'старе'))
    net.last.drop()
    chat.say('моє')
    timers.advance(30_000)
    net.last.open()
    net.last.say({ type: 'reset', cursor: 41 })
    await settle()
    expect(texts(chat)).toEqual(['нове', 'моє'])
    expect(chat.log.cursor).toBe(41)
  })

  it('fetches every page of a long conversation after a reset', async () => {
    const page = (from: number, n: number): object[] => Array.from({ length: n }, (_, i) => reply(from + i, `m${from + i}`))
    http.on('GET /chat/v1/messages', { body: { items: page(1, 200), cursor: 200 } }, { body: { items: page(201, 30), cursor: 260 } })
    const chat = await started()
    net.last.open()
    net.last.say({ type: 'ready', cursor: 900 })
    net.last.say({ type: 'reset', cursor: 260 })
    await settle()
    expect(chat.bubbles()).toHaveLength(230)
    expect(http.to('GET /chat/v1/messages').map((c) => c.path)).toEqual(['/chat/v1/messages?after=0&limit=200', '/chat/v1/messages?after=200&limit=200'])
  })

  it('takes a deleted message off the screen', async () => {
    const chat = await started()
    ready()
    net.last.say(reply(1, 'ой'))
    net.last.say({ type: 'edit', seq: 1, text: '', deleted: true })
    expect(texts(chat)).toEqual([])
  })

  it('shows typing for six seconds or until the words come', async () => {
    const chat = await started()
    ready()
    net.last.say({ type: 'typing', name: 'Олена' })
    expect(chat.typingName).toBe('Олена')
    timers.advance(6_000)
    expect(chat.typingName).toBeNull()
    net.last.say({ type: 'typing', name: 'Олена' })
    net.last.say(reply(1, 'так'))
    expect(chat.typingName).toBeNull()
  })

  it('tells the server it typed at most every three seconds', async () => {
    const chat = await started()
    ready()
    chat.typing()
    chat.typing()
    timers.advance(3_000)
    chat.typing()
    expect(net.last.sent.filter((f) => f['type'] === 'typing')).toHaveLength(2)
  })

  it('reports each new highest message as read once', async () => {
    const chat = await started()
    ready()
    net.last.say(reply(1, 'a'))
    chat.seen()
    chat.seen()
    net.last.say(reply(2, 'b'))
    chat.seen()
    expect(net.last.sent.filter((f) => f['type'] === 'read')).toEqual([{ type: 'read', seq: 1 }, { type: 'read', seq: 2 }])
  })
})

describe('the line', () => {
  it('opens a new session when the old one is over', async () => {
    await started()
    ready()
    net.last.drop(4401)
    timers.advance(30_000)
    await settle()
    expect(http.to('POST /chat/v1/session')).toHaveLength(2)
    expect(net.sockets).toHaveLength(2)
  })

  it('pings a quiet line and gives up a dead one', async () => {
    await started()
    ready()
    timers.advance(25_000)
    expect(net.last.sent.at(-1)).toEqual({ type: 'ping' })
    timers.advance(35_000)
    timers.advance(30_000)
    expect(net.sockets.length).toBeGreaterThan(1)
  })

  it('goes down the ladder when sockets do not open: events are heard, words are posted in order', async () => {
    let push!: (text: string) => void
    const stream = new ReadableStream<Uint8Array>({ start: (c) => void (push = (text) => c.enqueue(new TextEncoder().encode(text))) })
    http.on('GET /chat/v1/events', { stream })
    let seq = 0
    http.on('POST /chat/v1/messages', (call) => ({ body: { client_id: call.body!['client_id'], seq: ++seq } }))
    const chat = await started()
    const a = chat.say('a')
    const b = chat.say('b')
    net.last.drop()
    timers.advance(30_000)
    net.last.drop()
    timers.advance(30_000)
    await settle()
    expect(net.sockets).toHaveLength(2)
    const events = http.to('GET /chat/v1/events')[0]!
    expect(events.path).toBe('/chat/v1/events?after=0')
    expect(events.headers['Authorization']).toBe('Bearer S1')
    expect(chat.link).toBe('live')
    expect(http.to('POST /chat/v1/messages').map((c) => c.body!['client_id'])).toEqual([a, b])
    push(`id: 1\ndata: ${JSON.stringify(inbound(1, 'a', a))}\n\nid: 2\nda`)
    push(`ta: ${JSON.stringify(inbound(2, 'b', b))}\n\n: keep-alive\n\n`)
    await settle()
    expect(chat.bubbles()).toMatchObject([{ text: 'a', seq: 1 }, { text: 'b', seq: 2 }])
    chat.stop()
  })

  it('polls as the last resort and moves on after what it heard', async () => {
    let release!: () => void
    const held = new Promise<void>((resolve) => (release = resolve))
    http.on('GET /chat/v1/events', { status: 502 })
    http.on('GET /chat/v1/poll', { body: { items: [reply(7, 'сім')], cursor: 7 } }, async () => {
      await held
      return 'offline' as const
    })
    const chat = await started()
    for (let i = 0; i < 4; i += 1) {
      if (net.last.readyState !== 3) net.last.drop()
      timers.advance(30_000)
      await settle()
    }
    await settle()
    expect(texts(chat)).toEqual(['сім'])
    expect(http.to('GET /chat/v1/poll').map((c) => c.path)).toEqual(['/chat/v1/poll?after=0&wait=0', '/chat/v1/poll?after=7&wait=25'])
    chat.stop()
    release()
    await settle()
  })

  it('fetches the thread anew when a poll says that its number was never given', async () => {
    http.on('GET /chat/v1/events', { status: 502 })
    http.on('GET /chat/v1/poll', { body: { items: [], cursor: 2, reset: true } }, async () => 'offline' as const)
    http.on('GET /chat/v1/messages', { body: { items: [reply(1, 'раз'), reply(2, 'два')], cursor: 2 } })
    const chat = await started()
    for (let i = 0; i < 4; i += 1) {
      if (net.last.readyState !== 3) net.last.drop()
      timers.advance(30_000)
      await settle()
    }
    await settle()
    expect(texts(chat)).toEqual(['раз', 'два'])
    expect(http.to('GET /chat/v1/messages').map((c) => c.path)).toEqual(['/chat/v1/messages?after=0&limit=200'])
    chat.stop()
  })
})

describe('whether anybody is there', () => {
  const away = { ...SESSION, config: { team_online: false } }
  const spoken = (seq: number, at: number): object => ({ ...reply(seq, 'hi'), at: new Date(at).toISOString() })

  it('is believed of an agent who answers now, not of one who answered long ago', async () => {
    http = new FakeHttp().on('POST /chat/v1/session', { body: away })
    const chat = await started()
    ready()
    net.last.say(spoken(1, timers.now - 3_600_000))
    expect(chat.config.team_online).toBe(false)
    net.last.say(spoken(2, timers.now))
    expect(chat.config.team_online).toBe(true)
  })

  it('is believed when one joins', async () => {
    http = new FakeHttp().on('POST /chat/v1/session', { body: away })
    const chat = await started()
    ready()
    net.last.say({ type: 'agent_joined', name: 'Olena' })
    expect(chat.config.team_online).toBe(true)
  })
})

describe('a lost network', () => {
  it('is shown at once, and what was said meanwhile goes out once when it is back', async () => {
    const chat = await started()
    ready()
    const first = net.last
    chat.lost()
    expect(chat.link).toBe('offline')
    const id = chat.say('are you there?')
    expect(first.sent.filter((f) => f['type'] === 'message')).toHaveLength(0)
    chat.nudge()
    ready()
    expect(net.last).not.toBe(first)
    expect(chat.link).toBe('live')
    expect(said().map((f) => f['client_id'])).toEqual([id])
    chat.lost()
    chat.lost()
    timers.advance(5_000)
    expect(net.sockets).toHaveLength(3)
  })
})

describe('an event stream', () => {
  it('is cut into frames wherever the pieces end, with any line ends', () => {
    const parser = new SseParser()
    const text = ': hi\r\n\r\nid: 1\r\ndata: {"type":"typing"}\r\n\r\nevent: read\r\ndata: {"seq":\r\ndata: 4}\r\n\r\ndata: rubbish\n\n'
    expect([...text].flatMap((c) => parser.push(c))).toEqual([{ type: 'typing' }, { type: 'read', seq: 4 }])
    expect(new SseParser().push(text)).toHaveLength(2)
  })
})
