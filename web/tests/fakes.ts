/** Strict stand-ins for the browser: sockets that are opened by the test, time that moves only when told. */

import type { SocketLike, Timers } from '../shared/timers'

export class FakeTimers implements Timers {
  private at = 0
  private last = 0
  private readonly queue = new Map<number, { due: number; run: () => void }>()

  set(run: () => void, ms: number): number {
    const id = ++this.last
    this.queue.set(id, { due: this.at + ms, run })
    return id
  }

  clear(id: number): void {
    this.queue.delete(id)
  }

  get now(): number {
    return this.at
  }

  /** Delays of everything waiting, from now, smallest first. */
  get waiting(): number[] {
    return [...this.queue.values()].map((t) => t.due - this.at).sort((a, b) => a - b)
  }

  advance(ms: number): void {
    const end = this.at + ms
    for (;;) {
      const next = [...this.queue].filter(([, t]) => t.due <= end).sort((a, b) => a[1].due - b[1].due)[0]
      if (!next) break
      this.queue.delete(next[0])
      this.at = next[1].due
      next[1].run()
    }
    this.at = end
  }
}

export class FakeSocket implements SocketLike {
  readyState = 0
  onopen: ((event: Event) => void) | null = null
  onmessage: ((event: MessageEvent) => void) | null = null
  onclose: ((event: CloseEvent) => void) | null = null
  onerror: ((event: Event) => void) | null = null
  readonly sent: Record<string, unknown>[] = []
  closedWith: number | null = null

  constructor(readonly url: string) {}

  open(): void {
    this.readyState = 1
    this.onopen?.({} as Event)
  }

  say(frame: object): void {
    this.onmessage?.({ data: JSON.stringify(frame) } as MessageEvent)
  }

  raw(data: string): void {
    this.onmessage?.({ data } as MessageEvent)
  }

  /** The other side closes, or the line breaks (1006). */
  drop(code = 1006): void {
    this.readyState = 3
    this.onclose?.({ code } as CloseEvent)
  }

  send(data: string): void {
    if (this.readyState !== 1) throw new Error('The socket is not open')
    this.sent.push(JSON.parse(data) as Record<string, unknown>)
  }

  close(code?: number): void {
    this.closedWith = code ?? 1005
    this.readyState = 3
  }
}

export class FakeNet {
  readonly sockets: FakeSocket[] = []
  readonly make = (url: string): SocketLike => {
    const socket = new FakeSocket(url)
    this.sockets.push(socket)
    return socket
  }

  get last(): FakeSocket {
    const socket = this.sockets[this.sockets.length - 1]
    if (!socket) throw new Error('No socket was opened')
    return socket
  }
}

export interface Call {
  method: string
  path: string
  headers: Record<string, string>
  body: Record<string, unknown> | null
}

type Answer = { status?: number; body?: unknown; headers?: Record<string, string>; stream?: ReadableStream<Uint8Array> } | 'offline'

/** A fetch answered by the test; a path nobody prepared is an error, not a default. */
export class FakeHttp {
  readonly calls: Call[] = []
  private readonly routes = new Map<string, ((call: Call) => Answer | Promise<Answer>)[]>()

  on(route: string, ...answers: (Answer | ((call: Call) => Answer | Promise<Answer>))[]): this {
    const list = this.routes.get(route) ?? []
    list.push(...answers.map((a) => (typeof a === 'function' ? a : () => a)))
    this.routes.set(route, list)
    return this
  }

  readonly fetch = (async (input: string, init: RequestInit = {}) => {
    const url = new URL(input)
    const method = init.method ?? 'GET'
    const headers = (init.headers ?? {}) as Record<string, string>
    const body = typeof init.body === 'string' ? (JSON.parse(init.body) as Record<string, unknown>) : null
    const call: Call = { method, path: url.pathname + url.search, headers, body }
    this.calls.push(call)
    const list = this.routes.get(`${method} ${url.pathname}`)
    if (!list?.length) throw new Error(`Nothing prepared for ${method} ${url.pathname}`)
    const answer = await (list.length > 1 ? list.shift()! : list[0]!)(call)
    if (answer === 'offline') throw new TypeError('Failed to fetch')
    const status = answer.status ?? 200
    if (answer.stream) return new Response(answer.stream, { status })
    return new Response(JSON.stringify(answer.body ?? {}), { status, headers: { 'Content-Type': 'application/json', ...answer.headers } })
  }) as typeof fetch

  to(route: string): Call[] {
    return this.calls.filter((c) => `${c.method} ${c.path.split('?')[0]}` === route)
  }
}

/** Lets promises that are already settled run on. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 30; i += 1) await Promise.resolve()
  await new Promise((resolve) => setImmediate(resolve))
}
