/** Who is at the desk, and how available: login, `/me`, presence and capacity. */

import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import type { Me, Presence, PresenceKind, Role } from '../../shared/api'
import { isLanguage, keptLanguage, setLanguage } from '../i18n'
import { api } from './http'

const RANK: Record<Role, number> = { agent: 0, supervisor: 1, admin: 2 }

export const useSession = defineStore('session', () => {
  const me = ref<Me | null>(null)
  /** True once we asked the server who we are, whatever it said. */
  const known = ref(false)
  const agent = computed(() => me.value?.agent ?? null)
  const presence = computed(() => me.value?.presence ?? null)

  async function restore(): Promise<void> {
    try {
      me.value = await api.get<Me>('/me')
      const wish = me.value.agent.language
      if (!keptLanguage() && isLanguage(wish)) await setLanguage(wish)
    } catch {
      me.value = null
    }
    known.value = true
  }

  async function login(email: string, password: string): Promise<void> {
    await api.post('/auth/login', { email, password })
    me.value = await api.get<Me>('/me')
    known.value = true
  }

  async function logout(): Promise<void> {
    try {
      await api.post('/auth/logout')
    } finally {
      me.value = null
    }
  }

  async function setPresence(kind: PresenceKind): Promise<void> {
    const answer = await api.put<Presence>('/me/presence', { presence: kind })
    take(answer)
  }

  function take(answer: Presence): void {
    if (me.value) me.value = { ...me.value, presence: answer }
  }

  async function refreshPresence(): Promise<void> {
    take(await api.post<Presence>('/me/heartbeat'))
  }

  function may(role: Role): boolean {
    return me.value !== null && RANK[me.value.agent.role] >= RANK[role]
  }

  return { me, known, agent, presence, restore, login, logout, setPresence, refreshPresence, may }
})
