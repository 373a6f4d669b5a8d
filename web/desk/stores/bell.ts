/** What this person was told (notices) and the open calls for help of his teams (pages), kept fresh by the feed. */

import { defineStore } from 'pinia'
import { ref } from 'vue'
import type { FeedEvent, Notification, Notifications, OnCallPage, Page } from '../../shared/api'
import { i18n } from '../i18n'
import { api } from './http'
import { useLive } from './live'
import { useNotices } from './notices'

const AT_LEAST_MS = 400

export const useBell = defineStore('bell', () => {
  const list = ref<Notification[]>([])
  const unread = ref(0)
  const pages = ref<OnCallPage[]>([])
  const busy = ref<number | null>(null)
  let soon: ReturnType<typeof setTimeout> | null = null

  async function load(): Promise<void> {
    try {
      const [told, calls] = await Promise.all([
        api.get<Notifications>('/me/notifications', { limit: 30 }),
        api.get<Page<OnCallPage>>('/pages', { state: 'open', limit: 20 }),
      ])
      list.value = told.items
      unread.value = told.unread
      pages.value = calls.items
    } catch (error) {
      useNotices().fail(error)
    }
  }

  /** The words of a line are the server's, so an event only says that there is something to ask for. */
  function onEvent(event: FeedEvent): void {
    if (!/^(notification|page)\./.test(event.kind) || soon !== null) return
    soon = setTimeout(() => {
      soon = null
      void load()
    }, AT_LEAST_MS)
  }

  async function read(notice: Notification): Promise<void> {
    if (notice.read_at) return
    await useNotices().attempt(() => api.post(`/me/notifications/${notice.id}/read`))
    await load()
  }

  async function readAll(): Promise<void> {
    await useNotices().attempt(() => api.post('/me/notifications/read', { up_to: list.value[0]?.id ?? null }))
    await load()
  }

  async function acknowledge(page: OnCallPage): Promise<boolean> {
    busy.value = page.id
    const answer = await useNotices().attempt(() => api.post(`/pages/${page.id}/acknowledge`), i18n.global.t('bell.acknowledged'))
    busy.value = null
    await load()
    return answer !== null
  }

  const listen = (): (() => void) => useLive().on(onEvent, () => void load())

  return { list, unread, pages, busy, load, read, readAll, acknowledge, listen }
})
