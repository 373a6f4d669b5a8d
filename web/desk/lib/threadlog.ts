/**
 * The messages of one inquiry, whatever order news arrives in: fetched pages, feed events, answers to our own posts.
 *
 * Owns dedupe (by id and by `client_id`), the replacing of optimistic messages, and states that never go backwards
 * except where resending makes them.
 */

import type { Message, MessageState } from '../../shared/api'

/** A message on the screen; `local` until the server has it. */
export interface ShownMessage extends Message {
  local?: 'sending' | 'failed'
  localProblem?: string
}

export class ThreadLog {
  private readonly byId = new Map<number, Message>()
  private readonly local = new Map<string, ShownMessage>()

  get lastSeq(): number {
    let last = 0
    for (const m of this.byId.values()) last = Math.max(last, m.seq)
    return last
  }

  get firstSeq(): number | null {
    let first: number | null = null
    for (const m of this.byId.values()) first = first === null ? m.seq : Math.min(first, m.seq)
    return first
  }

  take(messages: readonly Message[]): void {
    for (const message of messages) {
      this.byId.set(message.id, message)
      if (message.client_id) this.local.delete(message.client_id)
    }
  }

  /** Shows our own words before the server has them. */
  expect(draft: ShownMessage): void {
    if (draft.client_id) this.local.set(draft.client_id, { ...draft, local: 'sending' })
  }

  refused(clientId: string, problem: string): void {
    const draft = this.local.get(clientId)
    if (draft) this.local.set(clientId, { ...draft, local: 'failed', localProblem: problem })
  }

  retry(clientId: string): ShownMessage | null {
    const draft = this.local.get(clientId)
    if (!draft) return null
    const again: ShownMessage = { ...draft, local: 'sending', localProblem: undefined }
    this.local.set(clientId, again)
    return again
  }

  discard(clientId: string): void {
    this.local.delete(clientId)
  }

  stateChanged(messageId: number, state: MessageState, error: string | null): boolean {
    const message = this.byId.get(messageId)
    if (!message) return false
    this.byId.set(messageId, { ...message, state, error })
    return true
  }

  shown(): ShownMessage[] {
    const said = [...this.byId.values()].sort((a, b) => a.seq - b.seq || a.id - b.id)
    return [...said, ...this.local.values()]
  }
}
