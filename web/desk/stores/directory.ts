/** Names of teams, agents and inboxes for menus; fetched once, refreshed when a menu needs it fresh. */

import { defineStore } from 'pinia'
import { ref } from 'vue'
import type { Agent, Inbox, Page, Team } from '../../shared/api'
import { api } from './http'
import { useNotices } from './notices'

export const useDirectory = defineStore('directory', () => {
  const teams = ref<Team[]>([])
  const agents = ref<Agent[]>([])
  const inboxes = ref<Inbox[]>([])

  async function fetchAll<T>(path: string): Promise<T[]> {
    const found: T[] = []
    let cursor: string | null = null
    do {
      const page: Page<T> = await api.get(path, { cursor })
      found.push(...page.items)
      cursor = page.next
    } while (cursor && found.length < 5000)
    return found
  }

  async function loadPeople(): Promise<void> {
    try {
      ;[teams.value, agents.value] = await Promise.all([fetchAll<Team>('/teams'), fetchAll<Agent>('/agents')])
    } catch (error) {
      useNotices().fail(error)
    }
  }

  async function loadInboxes(): Promise<void> {
    try {
      inboxes.value = await fetchAll<Inbox>('/inboxes')
    } catch (error) {
      useNotices().fail(error)
    }
  }

  return { teams, agents, inboxes, loadPeople, loadInboxes, fetchAll }
})
