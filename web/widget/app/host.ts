/**
 * The page around the frame: what it tells us, what we tell it, and the visitor's memory.
 *
 * Every message is posted to, and accepted from, one explicit origin. The visitor token is kept in this frame's own
 * storage and, because browsers may partition or forbid that, also handed to the loader for the page's storage.
 */

import type { Outgoing } from './protocol'
import type { VisitorStore } from './client'

export interface HostInit {
  visitor_token?: string | null
  identity_jwt?: string | null
  locale?: string | null
  page?: string
  referrer?: string
  utm?: Record<string, string>
  opened?: boolean
}

export interface HostEvents {
  onOpened(): void
  onClosed(): void
  onIdentify(jwt: string | null): void
}

export class Host {
  readonly embedded = window.parent !== window

  constructor(
    private readonly origin: string,
    private readonly events: HostEvents,
  ) {}

  /** Greets the loader and waits for what it knows; goes on without it after 2 s (opened as a page of its own). */
  greet(): Promise<HostInit> {
    if (!this.embedded || !this.origin) return Promise.resolve({ opened: true })
    return new Promise((resolve) => {
      const late = setTimeout(() => resolve({ opened: true }), 2000)
      addEventListener('message', (event: MessageEvent) => {
        if (event.origin !== this.origin || event.source !== window.parent) return
        const data = event.data as (HostInit & { type?: string }) | null
        switch (data?.type) {
          case 'switchboard:init':
            clearTimeout(late)
            resolve(data)
            break
          case 'switchboard:opened':
            this.events.onOpened()
            break
          case 'switchboard:closed':
            this.events.onClosed()
            break
          case 'switchboard:identify':
            this.events.onIdentify(data.identity_jwt ?? null)
            break
        }
      })
      this.tell({ type: 'switchboard:ready' })
    })
  }

  tell(message: object): void {
    if (this.embedded && this.origin) window.parent.postMessage(message, this.origin)
  }
}

/** Only a real web origin may be spoken to: `*`, `null` or a javascript: URL in the query is refused. */
export function safeOrigin(text: string | null): string {
  if (!text) return ''
  try {
    const url = new URL(text)
    return url.protocol === 'https:' || url.protocol === 'http:' ? url.origin : ''
  } catch {
    return ''
  }
}

/** The subject of a signed identity, read without judging it: only to notice that the person changed. */
export function subjectOf(jwt: string | null | undefined): string | null {
  try {
    const part = jwt?.split('.')[1]
    if (!part) return null
    const json = atob(part.replace(/-/g, '+').replace(/_/g, '/'))
    return String((JSON.parse(json) as { sub?: unknown }).sub ?? '') || null
  } catch {
    return null
  }
}

interface Memory {
  token: string | null
  subject: string | null
  outbox: Outgoing[]
}

export class BrowserStore implements VisitorStore {
  private memory: Memory

  constructor(
    private readonly key: string,
    fromHost: string | null,
  ) {
    this.memory = { token: null, subject: null, outbox: [] }
    try {
      const kept = JSON.parse(localStorage.getItem(key) ?? 'null') as Partial<Memory> | null
      if (kept) this.memory = { token: kept.token ?? null, subject: kept.subject ?? null, outbox: kept.outbox ?? [] }
    } catch {
      // Forbidden or damaged storage: the copy of the host page is what we have.
    }
    if (!this.memory.token) this.memory.token = fromHost
  }

  /** Notes who is identified now. A different person starts without the former one's token and words. */
  identify(subject: string | null): void {
    if (this.memory.subject !== null && this.memory.subject !== subject) {
      this.memory.token = null
      this.memory.outbox = []
    }
    this.memory.subject = subject
    this.save()
  }

  token(): string | null {
    return this.memory.token
  }

  keepToken(token: string | null): void {
    this.memory.token = token
    this.save()
  }

  outbox(): Outgoing[] {
    return this.memory.outbox
  }

  keepOutbox(messages: Outgoing[]): void {
    this.memory.outbox = messages
    this.save()
  }

  private save(): void {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.memory))
    } catch {
      // Full or forbidden storage: the conversation still works until the page closes.
    }
  }
}
