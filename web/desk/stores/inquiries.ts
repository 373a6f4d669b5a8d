/** The list of inquiries under the present filter, kept true by the feed. */

import { defineStore } from 'pinia'
import { computed, reactive, ref, shallowRef, triggerRef } from 'vue'
import type { FeedEvent, Inquiry, Message, Page } from '../../shared/api'
import { ACTIVE, belongs, ordered, settledRead, toQuery, type ListFilter } from '../lib/views'
import { api } from './http'
import { useLive } from './live'
import { useNotices } from './notices'
import { useSession } from './session'

/** Changed inquiries are fetched together after this pause, so that a burst of events costs one request each. */
const GATHER_MS = 200

const KINDS = /^(inquiry|sla|callback|call|offer)\./

export const useInquiries = defineStore('inquiries', () => {
  const filter = reactive<ListFilter>({
    scope: 'mine', kind: null, statuses: [...ACTIVE], channel: null, teamId: null, q: '', sort: '-updated_at',
  })
  const byId = shallowRef(new Map<number, Inquiry>())
  /** Ids in the present list; the cache also holds the opened inquiry, which need not be in it. */
  const listed = shallowRef(new Set<number>())
  const next = ref<string | null>(null)
  const loading = ref(false)
  const failed = ref(false)
  let generation = 0

  const items = computed(() => {
    const found: Inquiry[] = []
    for (const id of listed.value) {
      const inquiry = byId.value.get(id)
      if (inquiry) found.push(inquiry)
    }
    return ordered(found, filter.sort)
  })

  function get(id: number | null): Inquiry | null {
    return id === null ? null : (byId.value.get(id) ?? null)
  }

  async function load(): Promise<void> {
    const mine = ++generation
    loading.value = true
    failed.value = false
    try {
      const page = await api.get<Page<Inquiry>>('/inquiries', toQuery(filter))
      if (mine !== generation) return
      listed.value = new Set(page.items.map((i) => i.id))
      for (const inquiry of page.items) byId.value.set(inquiry.id, inquiry)
      triggerRef(byId)
      next.value = page.next
    } catch (error) {
      if (mine !== generation) return
      failed.value = true
      useNotices().fail(error)
    } finally {
      if (mine === generation) loading.value = false
    }
  }

  async function more(): Promise<void> {
    if (!next.value || loading.value) return
    const mine = generation
    loading.value = true
    try {
      const page = await api.get<Page<Inquiry>>('/inquiries', { ...toQuery(filter), cursor: next.value })
      if (mine !== generation) return
      for (const inquiry of page.items) {
        byId.value.set(inquiry.id, inquiry)
        listed.value.add(inquiry.id)
      }
      triggerRef(byId)
      triggerRef(listed)
      next.value = page.next
    } catch (error) {
      useNotices().fail(error)
    } finally {
      loading.value = false
    }
  }

  /** Takes a fresh copy of an inquiry from anywhere and settles whether the list shows it. */
  function take(fetched: Inquiry): void {
    const inquiry = settledRead(fetched, readUpTo.get(fetched.id))
    byId.value.set(inquiry.id, inquiry)
    triggerRef(byId)
    const verdict = belongs(inquiry, filter, useSession().agent?.id ?? 0)
    const inList = listed.value.has(inquiry.id)
    if (verdict === true && !inList) listed.value.add(inquiry.id)
    else if (verdict === false && inList) listed.value.delete(inquiry.id)
    else return
    triggerRef(listed)
  }

  async function fetchOne(id: number): Promise<Inquiry> {
    const inquiry = await api.get<Inquiry>(`/inquiries/${id}`)
    take(inquiry)
    return inquiry
  }

  /** Moment of the last message when its inquiry was marked read. */
  const readUpTo = new Map<number, string>()
  const lines = new Map<number, Promise<unknown>>()

  /** Changes of one inquiry go one after the other: the second must carry the version the first one made. */
  function change(id: number, patch: Record<string, unknown>): Promise<Inquiry | null> {
    const result = (lines.get(id) ?? Promise.resolve()).then(() => changeNow(id, patch))
    lines.set(id, result)
    return result
  }

  async function changeNow(id: number, patch: Record<string, unknown>): Promise<Inquiry | null> {
    const version = get(id)?.version
    return useNotices().attempt(async () => {
      try {
        const body = version === undefined ? patch : { ...patch, version }
        const inquiry = await api.patch<Inquiry>(`/inquiries/${id}`, body)
        take(inquiry)
        return inquiry
      } catch (error) {
        // Somebody was faster: show the truth, and the server's sentence about it.
        void fetchOne(id).catch(() => undefined)
        throw error
      }
    })
  }

  function markRead(id: number): void {
    const inquiry = byId.value.get(id)
    if (!inquiry?.unread) return
    readUpTo.set(id, inquiry.last_message?.at ?? '')
    byId.value.set(id, { ...inquiry, unread: false })
    triggerRef(byId)
  }

  const stale = new Set<number>()
  let gathering: ReturnType<typeof setTimeout> | null = null

  function refreshSoon(id: number): void {
    stale.add(id)
    gathering ??= setTimeout(() => {
      gathering = null
      const ids = [...stale]
      stale.clear()
      // After a storm one list is cheaper than many single answers.
      if (ids.length > 12) {
        void load()
        for (const known of ids.filter((i) => byId.value.has(i) && !listed.value.has(i)).slice(0, 5)) void fetchQuietly(known)
      } else {
        for (const one of ids) void fetchQuietly(one)
      }
    }, GATHER_MS)
  }

  async function fetchQuietly(id: number): Promise<void> {
    try {
      await fetchOne(id)
    } catch {
      // Not ours to see any more, or gone: it leaves the list.
      if (listed.value.delete(id)) triggerRef(listed)
    }
  }

  function onEvent(event: FeedEvent): void {
    const id = event.inquiry_id ?? (event.subject?.kind === 'inquiry' ? event.subject.id : null)
    if (!id) return
    if (event.kind === 'message.added') {
      const message = event.data['message'] as Message | undefined
      const inquiry = byId.value.get(id)
      if (!message || !inquiry) return refreshSoon(id)
      const fromCustomer = message.direction === 'in'
      byId.value.set(id, {
        ...inquiry,
        updated_at: event.at,
        unread: inquiry.unread || fromCustomer,
        last_message: {
          text: message.text, at: message.created_at, author_kind: message.author.kind, direction: message.direction,
        },
      })
      triggerRef(byId)
      // Status and SLA clocks follow from the message; ask for them once the burst is over.
      refreshSoon(id)
    } else if (KINDS.test(event.kind)) {
      refreshSoon(id)
    }
  }

  function listen(): () => void {
    return useLive().on(onEvent, () => {
      void load()
    })
  }

  return { filter, items, next, loading, failed, get, load, more, take, fetchOne, change, markRead, listen }
})
