/** Who is at the desk, and how available: login, `/me`, presence and capacity. */

import { defineStore } from 'pinia'
import { computed, ref } from 'vue'
import type { Me, Presence, PresenceKind, Role } from '../../shared/api'
import { ApiError } from '../../shared/http'
import { isLanguage, keptLanguage, setLanguage } from '../i18n'
import { api } from './http'

/**
 * Whether somebody signed in here before. Asking `/me` as a stranger is an error in every browser's console, so a
 * stranger is sent to the form without asking. Where storage is forbidden we always ask.
 */
const HINT = 'switchboard.signed-in'

function hinted(): boolean {
  try {
    return localStorage.getItem(HINT) !== null
  } catch {
    return true
  }
}

function hint(on: boolean): void {
  try {
    if (on) localStorage.setItem(HINT, '1')
    else localStorage.removeItem(HINT)
  } catch {
    // Forbidden storage: see above.
  }
}

const RANK: Record<Role, number> = { agent: 0, supervisor: 1, admin: 2 }

export const useSession = defineStore('session', () => {
  const me = ref<Me | null>(null)
  /** True once we asked the server who we are, whatever it said. */
  const known = ref(false)
  const agent = computed(() => me.value?.agent ?? null)
  const presence = computed(() => me.value?.presence ?? null)

  async function restore(): Promise<void> {
    known.value = true
    if (!hinted()) return
    try {
      me.value = await api.get<Me>('/me')
      const wish = me.value.agent.language
      if (!keptLanguage() && isLanguage(wish)) await setLanguage(wish)
    } catch (error) {
      me.value = null
      if (error instanceof ApiError && error.status === 401) hint(false)
    }
  }

  async function login(email: string, password: string): Promise<void> {
    await api.post('/auth/login', { email, password })
    me.value = await api.get<Me>('/me')
    known.value = true
    hint(true)
  }

  async function logout(): Promise<void> {
    try {
      await api.post('/auth/logout')
    } finally {
      me.value = null
      hint(false)
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
