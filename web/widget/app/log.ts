/**
 * The conversation as the visitor sees it: the server's log by `seq`, followed by what we said and it has not echoed.
 *
 * Owns dedupe and the replacing of optimistic bubbles. Knows nothing of transports. `seq` may jump (our people's
 * internal notes share the numbering), so a jump is not a loss.
 */

import type { Bubble, ChatState, MessageEventFrame, Outgoing } from './protocol'

const RANK: Record<ChatState, number> = {
  sending: 0, queued: 1, failed: 1, unknown: 1, received: 2, sent: 2, delivered: 3, read: 4,
}

interface Pending {
  out: Outgoing
  seq: number | null
  state: ChatState
  problem: string | null
}

export class ChatLog {
  private readonly bySeq = new Map<number, Bubble>()
  private readonly pending: Pending[] = []
  /** The highest `seq` received from the stream: what a resume asks to continue after. */
  cursor = 0

  /** Takes one message of the server. Returns false when it was known already. */
  receive(frame: MessageEventFrame): boolean {
    this.dropPending(frame.client_id ?? null, frame.seq)
    this.cursor = Math.max(this.cursor, frame.seq)
    if (this.bySeq.has(frame.seq) || frame.deleted) return false
    const mine = frame.direction === 'in'
    this.bySeq.set(frame.seq, {
      key: frame.client_id ? `c${frame.client_id}` : `s${frame.seq}`,
      seq: frame.seq,
      clientId: frame.client_id ?? null,
      mine,
      author: { kind: frame.author?.kind ?? (mine ? 'customer' : 'agent'), name: frame.author?.name ?? null },
      text: frame.text ?? '',
      buttons: frame.buttons ?? [],
      attachments: frame.attachments ?? [],
      at: frame.at,
      state: frame.state ?? (mine ? 'sent' : 'received'),
      edited: false,
      problem: null,
    })
    return true
  }

  /** Queues our own message; saying the same `client_id` twice is one message. */
  say(out: Outgoing): void {
    if (this.pending.some((p) => p.out.client_id === out.client_id)) return
    this.pending.push({ out, seq: null, state: 'sending', problem: null })
  }

  /** The server has it under `seq`. The bubble stays ours until the echo comes, or goes if the echo came first. */
  ack(clientId: string, seq: number): void {
    const found = this.pending.find((p) => p.out.client_id === clientId)
    if (!found) return
    if (this.bySeq.has(seq)) {
      this.pending.splice(this.pending.indexOf(found), 1)
      return
    }
    found.seq = seq
    found.state = 'sent'
    found.problem = null
  }

  isPending(clientId: string): boolean {
    return this.pending.some((p) => p.out.client_id === clientId && p.seq === null)
  }

  refuse(clientId: string, problem: string): void {
    const found = this.pending.find((p) => p.out.client_id === clientId)
    if (!found || found.seq !== null) return
    found.state = 'failed'
    found.problem = problem
  }

  /** The person asks to try a refused message again. Returns what to send, under the same `client_id`. */
  retry(clientId: string): Outgoing | null {
    const found = this.pending.find((p) => p.out.client_id === clientId)
    if (!found) return null
    found.state = 'sending'
    found.problem = null
    return found.out
  }

  /** What a new connection must say again: everything without an acknowledgement, except what was refused. */
  unacknowledged(): Outgoing[] {
    return this.pending.filter((p) => p.seq === null && p.state !== 'failed').map((p) => p.out)
  }

  /** Everything not echoed yet, for keeping over a reload of the page. */
  unsent(): Outgoing[] {
    return this.pending.filter((p) => p.seq === null).map((p) => p.out)
  }

  status(seq: number, state: ChatState): boolean {
    const bubble = this.bySeq.get(seq)
    if (!bubble || RANK[state] === undefined) return false
    // Statuses may be resent after a resume; they never go backwards.
    if (RANK[state] < RANK[bubble.state]) return false
    bubble.state = state
    return true
  }

  /** Everything of ours up to `seq` was read by our people. */
  readUpTo(seq: number): void {
    for (const bubble of this.bySeq.values()) {
      if (bubble.mine && bubble.seq! <= seq) this.status(bubble.seq!, 'read')
    }
  }

  edit(seq: number, change: { text?: string; buttons?: Bubble['buttons'] | null }): boolean {
    const bubble = this.bySeq.get(seq)
    if (!bubble) return false
    if (change.text !== undefined) {
      bubble.edited = bubble.edited || bubble.text !== change.text
      bubble.text = change.text
    }
    if (change.buttons !== undefined) bubble.buttons = change.buttons ?? []
    return true
  }

  remove(seq: number): boolean {
    return this.bySeq.delete(seq)
  }

  /** Forgets the server's part, because the server said our cursor is too old. Our own unsent words stay. */
  reset(): void {
    this.bySeq.clear()
    this.cursor = 0
  }

  get lastSeq(): number {
    return Math.max(0, ...this.bySeq.keys())
  }

  bubbles(): Bubble[] {
    const said = [...this.bySeq.values()].sort((a, b) => a.seq! - b.seq!)
    const waiting = this.pending.map((p): Bubble => ({
      key: `c${p.out.client_id}`,
      seq: null,
      clientId: p.out.client_id,
      mine: true,
      author: { kind: 'customer', name: null },
      text: p.out.text,
      buttons: [],
      attachments: p.out.attachments ?? [],
      at: p.out.at,
      state: p.state,
      edited: false,
      problem: p.problem,
    }))
    return [...said, ...waiting]
  }

  private dropPending(clientId: string | null, seq: number): void {
    const at = this.pending.findIndex((p) => (clientId !== null && p.out.client_id === clientId) || p.seq === seq)
    if (at >= 0) this.pending.splice(at, 1)
  }
}
