/** Periods as supervisors name them, as instants of a zone's days. Pure: the present instant is an argument. */

import { toInstant, toWall } from './zones'

export const PERIODS = ['today', 'yesterday', '7d', '30d', 'custom'] as const
export type Period = (typeof PERIODS)[number]

export interface Span {
  begin: number
  end: number
}

const DAY = /^(\d{4})-(\d{2})-(\d{2})$/

/** Midnight of a day (YYYY-MM-DD) moved on by so many days; null if it is no day. */
function midnight(day: string | null, zone: string, plus = 0): number | null {
  const parts = DAY.exec(day ?? '')
  if (!parts) return null
  const [year, month, date] = [Number(parts[1]), Number(parts[2]), Number(parts[3])]
  const real = new Date(Date.UTC(year, month - 1, date))
  if (year < 2000 || real.getUTCMonth() !== month - 1 || real.getUTCDate() !== date) return null
  return toInstant({ year, month, day: date + plus, hour: 0, minute: 0 }, zone)
}

export function dayOf(instantMs: number, zone: string): string {
  const w = toWall(instantMs, zone)
  return `${w.year}-${String(w.month).padStart(2, '0')}-${String(w.day).padStart(2, '0')}`
}

/**
 * [begin, end) of a period: whole days of the zone. What was done ends now at the latest, so that hours which nobody could
 * have worked yet are not counted; what is promised (`ahead`) counts to the end of its last day. `null`: no such days, or
 * nothing of them.
 */
export function spanOf(period: Period, from: string | null, to: string | null, zone: string, nowMs: number, ahead = false): Span | null {
  const today = dayOf(nowMs, zone)
  const back = { today: 0, yesterday: 1, '7d': 6, '30d': 29, custom: 0 }[period]
  const begin = period === 'custom' ? midnight(from, zone) : midnight(today, zone, -back)
  const after = period === 'custom' ? midnight(to, zone, 1) : midnight(today, zone, period === 'yesterday' ? 0 : 1)
  if (begin === null || after === null) return null
  const end = ahead ? after : Math.min(after, nowMs)
  return end > begin ? { begin, end } : null
}
