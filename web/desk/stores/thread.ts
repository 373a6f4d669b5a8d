/** The open inquiry's messages: loading, live news, saying and resending. */

import { defineStore } from 'pinia'
import { ref, shallowRef } from 'vue'
import type { FeedEvent, InquiryStatus, Message, MessageState, Page, Upload } from '../../shared/api'
import { uuid } from '../../shared/timers'
import { ThreadLog, type ShownMessage } from '../lib/threadlog'
import { api } from './http'
import { useInquiries } from './inquiries'
import { useLive } from './live'
import { sentence, useNotices } from './notices'
import { useSession } from './session'

export interface Draft {
  text: string
  internal: boolean
  attachments: Upload[]
  replyTo: number | null
  statusAfter: InquiryStatus | null
}

interface TypingNow {
  name: string
  until: number
}

const TYPING_MS = 6000
const PAGE = 100
/** Beyond any seq: asks for the newest page. */
const NEWEST = Number.MAX_SAFE_INTEGER

export const useThread = defineStore('thread', () => {
  const inquiryId = ref<number | null>(null)
  const messages = shallowRef<ShownMessage[]>([])
  const loading = ref(false)
  const typing = ref<TypingNow | null>(null)
  /** Whether the conversation began before the first message shown. */
  const hasEarlier = ref(false)
  let log = new ThreadLog()
  const unsent = new Map<string, { inquiryId: number; body: Record<string, unknown> }>()

  function redraw(): void {
    messages.value = log.shown()
  }

  async function open(id: number): Promise<void> {
    if (inquiryId.value === id) return catchUp()
    inquiryId.value = id
    log = new ThreadLog()
    typing.value = null
    redraw()
    hasEarlier.value = false
    loading.value = true
    await earlier()
    if (inquiryId.value === id) loading.value = false
    seen()
  }

  function close(): void {
    inquiryId.value = null
    log = new ThreadLog()
    redraw()
  }

  /** Fetches what came after the last message we have. */
  async function catchUp(): Promise<void> {
    const id = inquiryId.value
    if (id === null) return
    const own = log
    try {
      for (let full = true; full; ) {
        const answer = await api.get<Page<Message>>(`/inquiries/${id}/messages`, { after_seq: own.lastSeq, limit: PAGE })
        if (own !== log) return
        own.take(answer.items)
        redraw()
        full = answer.items.length === PAGE
      }
      seen()
    } catch (error) {
      useNotices().fail(error)
    }
  }

  /** Fetches the page before the first message we have; the newest one when we have none. */
  async function earlier(): Promise<void> {
    const id = inquiryId.value
    if (id === null) return
    const own = log
    try {
      const answer = await api.get<Page<Message>>(`/inquiries/${id}/messages`, { before_seq: own.firstSeq ?? NEWEST, limit: PAGE })
      if (own !== log) return
      own.take(answer.items)
      hasEarlier.value = answer.items.length === PAGE && (own.firstSeq ?? 1) > 1
      redraw()
    } catch (error) {
      useNotices().fail(error)
    }
  }

  function seen(): void {
    const id = inquiryId.value
    const seq = log.lastSeq
    if (id === null || seq === 0 || document.visibilityState !== 'visible') return
    if (!useInquiries().get(id)?.unread) return
    useInquiries().markRead(id)
    void api.post(`/inquiries/${id}/read`, { seq }).catch(() => undefined)
  }

  async function say(draft: Draft): Promise<void> {
    const id = inquiryId.value
    const agent = useSession().agent
    if (id === null || !agent) return
    const clientId = uuid()
    const body: Record<string, unknown> = { text: draft.text, client_id: clientId, internal: draft.internal }
    if (draft.replyTo !== null) body['reply_to_id'] = draft.replyTo
    if (draft.attachments.length) body['attachments'] = draft.attachments.map((a) => a.id)
    if (draft.statusAfter) body['status_after'] = draft.statusAfter
    const at = new Date().toISOString()
    log.expect({
      id: -Date.now(), seq: 0, conversation_id: 0, inquiry_id: id,
      direction: draft.internal ? 'internal' : 'out', kind: draft.internal ? 'note' : 'text',
      author: { kind: 'agent', id: agent.id, name: agent.name }, text: draft.text, html: null, quoted_text: null,
      attachments: draft.attachments, state: 'queued', error: null, client_id: clientId, reply_to_id: draft.replyTo,
      created_at: at, occurred_at: at, meta: null,
    })
    unsent.set(clientId, { inquiryId: id, body })
    redraw()
    await transmit(clientId)
  }

  /** The same `client_id` and Idempotency-Key however often: the customer gets it once. */
  async function transmit(clientId: string): Promise<void> {
    const entry = unsent.get(clientId)
    if (!entry) return
    const own = log
    try {
      const message = await api.post<Message>(`/inquiries/${entry.inquiryId}/messages`, entry.body, { idempotencyKey: clientId })
      unsent.delete(clientId)
      own.take([message])
      if (entry.body['status_after']) void useInquiries().fetchOne(entry.inquiryId).catch(() => undefined)
    } catch (error) {
      own.refused(clientId, sentence(error))
    }
    if (own === log) redraw()
  }

  function retry(clientId: string): void {
    if (!log.retry(clientId)) return
    redraw()
    void transmit(clientId)
  }

  function discard(clientId: string): void {
    unsent.delete(clientId)
    log.discard(clientId)
    redraw()
  }

  async function resend(message: Message): Promise<void> {
    const again = await useNotices().attempt(() => api.post<Message>(`/messages/${message.id}/resend`))
    if (again) {
      log.take([again])
      redraw()
    }
  }

  function onEvent(event: FeedEvent): void {
    const id = inquiryId.value
    if (id === null) return
    const message = event.data?.['message'] as Message | undefined
    if ((event.kind === 'message.added' || event.kind === 'message.edited') && message) {
      if ((event.inquiry_id ?? message.inquiry_id) !== id) return
      log.take([message])
      if (message.direction === 'in') typing.value = null
      redraw()
      seen()
    } else if (event.kind === 'message.edited' && event.inquiry_id === id) {
      void catchUp()
    } else if (event.kind === 'message.state_changed') {
      const { message_id, state, error } = event.data as { message_id: number; state: MessageState; error?: string | null }
      if (log.stateChanged(message_id, state, error ?? null)) redraw()
    } else if (event.kind === 'typing' && event.inquiry_id === id) {
      const name = typistName(event)
      if (name !== null) typing.value = { name, until: Date.now() + TYPING_MS }
    }
  }

  function typistName(event: FeedEvent): string | null {
    const actor = (event.actor ?? event.data['author'] ?? event.data) as { kind?: string; id?: number; name?: string } | string
    if (typeof actor === 'string') return actor === `agent:${useSession().agent?.id}` ? null : String(event.data['name'] ?? '')
    if (actor.kind === 'agent' && actor.id === useSession().agent?.id) return null
    return String(event.data['name'] ?? actor.name ?? '')
  }

  function listen(): () => void {
    return useLive().on(onEvent, () => {
      // Our cursor was too old: what we hold may have been edited meanwhile, so begin again.
      const id = inquiryId.value
      if (id === null) return
      inquiryId.value = null
      void open(id)
    })
  }

  return { inquiryId, messages, loading, typing, hasEarlier, earlier, open, close, catchUp, seen, say, retry, discard, resend, listen }
})
