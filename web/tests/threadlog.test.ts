import { beforeEach, describe, expect, it } from 'vitest'
import type { Message } from '../shared/api'
import { ThreadLog, type ShownMessage } from '../desk/lib/threadlog'

function aMessage(seq: number, extra: Partial<Message> = {}): Message {
  return {
    id: seq + 100, seq, conversation_id: 1, inquiry_id: 1, direction: 'out', kind: 'text', author: { kind: 'agent', id: 1, name: 'Olena' },
    text: `m${seq}`, html: null, quoted_text: null, attachments: [], state: 'queued', error: null, client_id: null, reply_to_id: null,
    created_at: '2026-11-22T00:00:00.000Z', occurred_at: null, meta: null, ...extra,
  }
}

let log: ThreadLog
const texts = (): string[] => log.shown().map((m) => m.text)
const draft = (id: string): ShownMessage => aMessage(0, { id: -1, client_id: id, text: `draft ${id}` })

beforeEach(() => {
  log = new ThreadLog()
})

describe('a thread', () => {
  it('shows a message once, in the order of the conversation, whatever order and how often it comes', () => {
    log.take([aMessage(2)])
    log.take([aMessage(1), aMessage(2), aMessage(3)])
    expect(texts()).toEqual(['m1', 'm2', 'm3'])
    expect(log.lastSeq).toBe(3)
  })

  it('shows our words last until the server has them, then in their place', () => {
    log.take([aMessage(1)])
    log.expect(draft('a'))
    expect(log.shown().at(-1)).toMatchObject({ text: 'draft a', local: 'sending' })
    log.take([aMessage(2, { client_id: 'a', text: 'said a' })])
    log.take([aMessage(3)])
    expect(texts()).toEqual(['m1', 'said a', 'm3'])
  })

  it('is one message when the feed is faster than the answer to the post', () => {
    log.expect(draft('a'))
    log.take([aMessage(1, { client_id: 'a' })])
    log.take([aMessage(1, { client_id: 'a' })])
    expect(log.shown()).toHaveLength(1)
    expect(log.shown()[0]!.local).toBeUndefined()
  })

  it('keeps refused words with the reason until they are retried or discarded', () => {
    log.expect(draft('a'))
    log.refused('a', 'No connection')
    expect(log.shown()[0]).toMatchObject({ local: 'failed', localProblem: 'No connection' })
    expect(log.retry('a')).toMatchObject({ client_id: 'a', local: 'sending' })
    log.discard('a')
    expect(log.shown()).toEqual([])
  })

  it('moves states of known messages only', () => {
    log.take([aMessage(1)])
    expect(log.stateChanged(101, 'failed', 'blocked')).toBe(true)
    expect(log.shown()[0]).toMatchObject({ state: 'failed', error: 'blocked' })
    expect(log.stateChanged(999, 'sent', null)).toBe(false)
  })
})
