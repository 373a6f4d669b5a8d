/** What the inquiry list shows: the filter as the API's query, as a local test, and as an order. Pure. */

import type { Inquiry, InquiryKind, InquiryStatus } from '../../shared/api'
import { nearestClock } from '../../shared/countdown'

export type Scope = 'mine' | 'queue' | 'all'
export type Sort = '-updated_at' | 'due_at'

export interface ListFilter {
  scope: Scope
  kind: InquiryKind | null
  statuses: InquiryStatus[]
  channel: string | null
  teamId: number | null
  q: string
  sort: Sort
}

export const ACTIVE: InquiryStatus[] = ['new', 'open', 'pending', 'hold']

export function toQuery(filter: ListFilter): Record<string, string | number | null | readonly string[]> {
  return {
    assignee_id: filter.scope === 'mine' ? 'me' : filter.scope === 'queue' ? 'none' : null,
    kind: filter.kind,
    status: filter.statuses,
    channel: filter.channel,
    team_id: filter.teamId,
    q: filter.q.trim() || null,
    sort: filter.sort,
    limit: 50,
  }
}

/** Whether an inquiry that just changed belongs in the list. With a search only the server can tell: `null`. */
export function belongs(inquiry: Inquiry, filter: ListFilter, myId: number): boolean | null {
  if (filter.scope === 'mine' && inquiry.assignee?.id !== myId) return false
  if (filter.scope === 'queue' && inquiry.assignee !== null) return false
  if (filter.kind && inquiry.kind !== filter.kind) return false
  if (filter.statuses.length && !filter.statuses.includes(inquiry.status)) return false
  if (filter.channel && inquiry.channel !== filter.channel) return false
  if (filter.teamId !== null && inquiry.team?.id !== filter.teamId) return false
  return filter.q.trim() ? null : true
}

/**
 * A fetched inquiry as the screen knows better: an answer that was under way while we told the server what we have read
 * still says unread, and nothing would ever correct it. `readAt` is the moment of the last message we have read.
 */
export function settledRead(inquiry: Inquiry, readAt: string | undefined): Inquiry {
  if (!inquiry.unread || readAt === undefined || (inquiry.last_message?.at ?? '') > readAt) return inquiry
  return { ...inquiry, unread: false }
}

export function dueMs(inquiry: Inquiry): number {
  const clock = nearestClock(inquiry.sla)
  return clock?.due_at ? Date.parse(clock.due_at) : Number.POSITIVE_INFINITY
}

export function ordered(list: Iterable<Inquiry>, sort: Sort): Inquiry[] {
  const updated = (i: Inquiry): number => Date.parse(i.updated_at)
  const all = [...list]
  if (sort === 'due_at') {
    // Infinity minus Infinity is not a number, so equal deadlines are compared before they are subtracted.
    return all.sort((a, b) => {
      const x = dueMs(a)
      const y = dueMs(b)
      return x === y ? updated(b) - updated(a) : x < y ? -1 : 1
    })
  }
  return all.sort((a, b) => updated(b) - updated(a) || b.id - a.id)
}
