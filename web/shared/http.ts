/**
 * The desk's HTTP client: JSON in and out, one error class for everything that can go wrong.
 *
 * `ApiError.message` is always a sentence for a person: the server's problem `detail` when there is one.
 */

import type { Problem } from './api'
import { uuid } from './timers'

export class ApiError extends Error {
  constructor(
    /** HTTP status; 0 when no answer came at all. */
    readonly status: number,
    readonly code: string,
    message: string,
    readonly problem: Problem | null = null,
  ) {
    super(message)
    this.name = 'ApiError'
  }

  /** Field errors of a 422, as `field: message`. */
  get fieldErrors(): string[] {
    return (this.problem?.errors ?? []).map((e) => {
      const where = e.loc.filter((part) => part !== 'body').join('.')
      return where ? `${where}: ${e.msg}` : e.msg
    })
  }
}

export type Query = Record<string, string | number | boolean | null | undefined | readonly (string | number)[]>

export interface RequestOptions {
  query?: Query
  body?: unknown
  signal?: AbortSignal
  /** Repeat the same key to make a retried POST harmless; a fresh one is made when absent. */
  idempotencyKey?: string
}

export function withQuery(path: string, query: Query | undefined): string {
  if (!query) return path
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === '') continue
    if (Array.isArray(value)) {
      if (value.length) params.set(name, value.join(','))
    } else {
      params.set(name, String(value))
    }
  }
  const text = params.toString()
  return text ? `${path}?${text}` : path
}

export class Http {
  /** Called once for every 401 outside of logging in. */
  onUnauthorized: (() => void) | null = null
  /** Milliseconds to add to the local clock to get the server's, from the `Date` header (whole seconds). */
  onServerTime: ((serverMs: number) => void) | null = null

  /** Sent as Accept-Language, so that the server's own sentences match the screen. */
  language: string | null = null

  constructor(
    private readonly base: string,
    private readonly fetcher: typeof fetch = (...args) => fetch(...args),
  ) {}

  get<T>(path: string, query?: Query, signal?: AbortSignal): Promise<T> {
    return this.request<T>('GET', path, { query, signal })
  }

  post<T>(path: string, body?: unknown, options: RequestOptions = {}): Promise<T> {
    return this.request<T>('POST', path, { ...options, body })
  }

  put<T>(path: string, body?: unknown): Promise<T> {
    return this.request<T>('PUT', path, { body })
  }

  patch<T>(path: string, body?: unknown): Promise<T> {
    return this.request<T>('PATCH', path, { body })
  }

  async request<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const headers: Record<string, string> = { Accept: 'application/json' }
    if (this.language) headers['Accept-Language'] = this.language
    let body: BodyInit | undefined
    if (options.body instanceof FormData) {
      body = options.body
    } else if (options.body !== undefined) {
      headers['Content-Type'] = 'application/json'
      body = JSON.stringify(options.body)
    }
    if (method !== 'GET') headers['X-Requested-With'] = 'switchboard'
    if (method === 'POST') headers['Idempotency-Key'] = options.idempotencyKey ?? uuid()
    let response: Response
    try {
      response = await this.fetcher(this.base + withQuery(path, options.query), {
        method,
        headers,
        body,
        signal: options.signal,
        credentials: 'same-origin',
      })
    } catch (cause) {
      if (cause instanceof DOMException && cause.name === 'AbortError') throw cause
      throw new ApiError(0, 'unreachable', 'The server cannot be reached.')
    }
    const date = Date.parse(response.headers.get('Date') ?? '')
    if (!Number.isNaN(date)) this.onServerTime?.(date)
    if (response.ok) {
      if (response.status === 204) return undefined as T
      const text = await response.text()
      return (text ? JSON.parse(text) : undefined) as T
    }
    const error = await toError(response)
    if (error.status === 401 && error.code !== 'bad_credentials') this.onUnauthorized?.()
    throw error
  }
}

async function toError(response: Response): Promise<ApiError> {
  let problem: Problem | null = null
  try {
    const type = response.headers.get('Content-Type') ?? ''
    if (type.includes('json')) problem = (await response.json()) as Problem
  } catch {
    problem = null // A proxy's HTML page or a cut body: the status is all we have.
  }
  const code = problem?.code ?? `http_${response.status}`
  const detail = problem?.detail ?? problem?.title ?? `The server answered ${response.status}.`
  return new ApiError(response.status, code, detail, problem)
}
