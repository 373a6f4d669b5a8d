/** A screen that shows one answer of the API: asks it, keeps the last answer while it asks again, says what went wrong. */

import { onBeforeUnmount, ref, shallowRef, watch, type Ref, type ShallowRef } from 'vue'
import type { Query } from '../../shared/http'
import { api } from '../stores/http'
import { sentence } from '../stores/notices'

export interface Asked<T> {
  answer: ShallowRef<T | null>
  loading: Ref<boolean>
  problem: Ref<string>
  load: () => Promise<void>
}

/** Asks at once and whenever the question or anything of `also` changes; a newer question cancels the older one. */
export function useAsked<T>(path: string, query: () => Query | null, also: () => unknown = () => null): Asked<T> {
  const answer = shallowRef<T | null>(null)
  const loading = ref(false)
  const problem = ref('')
  let stop: AbortController | null = null

  async function load(): Promise<void> {
    stop?.abort()
    const asked = query()
    if (asked === null) return
    const mine = (stop = new AbortController())
    loading.value = true
    problem.value = ''
    try {
      answer.value = await api.get<T>(path, asked, mine.signal)
    } catch (error) {
      if (mine.signal.aborted) return
      answer.value = null
      problem.value = sentence(error)
    } finally {
      if (stop === mine) loading.value = false
    }
  }

  watch([() => JSON.stringify(query()), also], () => void load(), { immediate: true })
  onBeforeUnmount(() => stop?.abort())
  return { answer, loading, problem, load }
}
