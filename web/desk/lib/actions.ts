/** What an agent does with an inquiry as a whole: take, transfer, release, change. */

import { useI18n } from 'vue-i18n'
import type { Inquiry } from '../../shared/api'
import { api } from '../stores/http'
import { useInquiries } from '../stores/inquiries'
import { useNotices } from '../stores/notices'

export function useActions(inquiry: () => Inquiry) {
  const { t } = useI18n()
  const store = useInquiries()
  const notices = useNotices()

  async function act(verb: 'take' | 'release' | 'transfer', body: object, done: string): Promise<boolean> {
    const id = inquiry().id
    const ok = await notices.attempt(async () => {
      await api.post(`/inquiries/${id}/${verb}`, body)
      await store.fetchOne(id).catch(() => undefined) // After a transfer it may not be ours to see.
      return true
    }, done)
    return ok === true
  }

  return {
    take: () => act('take', {}, t('actions.taken')),
    release: () => act('release', {}, t('actions.released')),
    transfer: (to: { agent_id?: number; team_id?: number; note?: string }) => act('transfer', to, t('actions.transferred')),
    change: (patch: Record<string, unknown>) => store.change(inquiry().id, patch),
  }
}
