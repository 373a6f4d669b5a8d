/** Short messages to the person. The only way an error reaches the screen: as a sentence, never as an exception. */

import { defineStore } from 'pinia'
import { ref } from 'vue'
import { ApiError } from '../../shared/http'
import { i18n } from '../i18n'

export interface Notice {
  id: number
  tone: 'good' | 'bad' | 'plain'
  text: string
}

export function sentence(error: unknown): string {
  const t = i18n.global.t
  if (error instanceof ApiError) {
    if (error.status === 0) return t('errors.unreachable')
    // Some errors say it all in their sentence and repeat it for programs.
    const fields = error.fieldErrors.filter((field) => !error.message.includes(field))
    const tail = error.problem?.log_id ? ` (${t('errors.logId', { id: error.problem.log_id })})` : ''
    return (fields.length ? `${error.message} ${fields.join('; ')}` : error.message) + tail
  }
  return t('errors.unexpected')
}

export const useNotices = defineStore('notices', () => {
  const list = ref<Notice[]>([])
  let last = 0

  function say(text: string, tone: Notice['tone'] = 'plain', ms = 4500): void {
    // The same trouble from ten requests at once is one notice.
    if (list.value.some((n) => n.text === text)) return
    const id = ++last
    list.value.push({ id, tone, text })
    setTimeout(() => dismiss(id), ms)
  }

  function dismiss(id: number): void {
    list.value = list.value.filter((n) => n.id !== id)
  }

  function fail(error: unknown): void {
    if (error instanceof DOMException && error.name === 'AbortError') return
    if (error instanceof ApiError && error.status === 401) return // The session store is already leading to login.
    say(sentence(error), 'bad', 8000)
  }

  /** Runs an action of the person; says what went wrong instead of throwing. Returns null on failure. */
  async function attempt<T>(action: () => Promise<T>, done?: string): Promise<T | null> {
    try {
      const result = await action()
      if (done) say(done, 'good')
      return result
    } catch (error) {
      fail(error)
      return null
    }
  }

  return { list, say, dismiss, fail, attempt }
})
