/** Deadlines as people read them. Pure: the present instant is always an argument, in epoch milliseconds. */

export type Urgency = 'calm' | 'soon' | 'late'

export interface Deadline {
  urgency: Urgency
  /** Signed milliseconds to the deadline; negative once it has passed. */
  leftMs: number
}

/**
 * How urgent a deadline is. Amber starts when a quarter of the target is left, at least 2 minutes and at most 1 hour
 * before it, so that a 3-minute chat promise and an 8-hour mail promise both warn in time to act.
 */
export function deadline(dueMs: number, nowMs: number, targetMs: number | null = null): Deadline {
  const leftMs = dueMs - nowMs
  if (leftMs < 0) return { urgency: 'late', leftMs }
  const quarter = (targetMs ?? 3_600_000) / 4
  const amberMs = Math.min(3_600_000, Math.max(120_000, quarter))
  return { urgency: leftMs <= amberMs ? 'soon' : 'calm', leftMs }
}

export interface Units {
  d: string
  h: string
  m: string
  s: string
}

export const LATIN_UNITS: Units = { d: 'd', h: 'h', m: 'm', s: 's' }

/** A running countdown: `4:05` under an hour, `2 h 07 m` under two days, `5 d 3 h` beyond. Never negative. */
export function countdown(ms: number, units: Units = LATIN_UNITS): string {
  const total = Math.max(0, Math.floor(ms / 1000))
  const s = total % 60
  const m = Math.floor(total / 60) % 60
  const h = Math.floor(total / 3600)
  const two = (n: number): string => String(n).padStart(2, '0')
  if (h === 0) return `${m}:${two(s)}`
  if (h < 48) return `${h} ${units.h} ${two(m)} ${units.m}`
  return `${Math.floor(h / 24)} ${units.d} ${h % 24} ${units.h}`
}

/** A span at a glance: `45 s`, `5 m`, `3 h`, `2 d`. */
export function shortSpan(ms: number, units: Units = LATIN_UNITS): string {
  const s = Math.max(0, Math.floor(ms / 1000))
  if (s < 60) return `${s} ${units.s}`
  if (s < 3600) return `${Math.floor(s / 60)} ${units.m}`
  if (s < 172_800) return `${Math.floor(s / 3600)} ${units.h}`
  return `${Math.floor(s / 86_400)} ${units.d}`
}

/** A measured span as a report shows it: `9.2 s`, `4 m 05 s`, `2 h 07 m`, `5 d 3 h`. `tenths` writes the decimals of a language. */
export function measured(ms: number, units: Units = LATIN_UNITS, tenths: (seconds: number) => string = (s) => s.toFixed(1)): string {
  const s = Math.max(0, ms) / 1000
  if (s < 59.95) return `${Number.isInteger(s) ? s : tenths(s)} ${units.s}`
  const both = (n: number, unit: string, rest: number, small: string): string => (rest ? `${n} ${unit} ${String(rest).padStart(2, '0')} ${small}` : `${n} ${unit}`)
  const seconds = Math.round(s)
  if (seconds < 3600) return both(Math.floor(seconds / 60), units.m, seconds % 60, units.s)
  const minutes = Math.round(s / 60)
  if (minutes < 48 * 60) return both(Math.floor(minutes / 60), units.h, minutes % 60, units.m)
  const hours = Math.round(s / 3600)
  return `${Math.floor(hours / 24)} ${units.d}${hours % 24 ? ` ${hours % 24} ${units.h}` : ''}`
}

/** The clock a list should show: the running one with the nearest deadline; `null` when nothing is promised. */
export function nearestClock<C extends { state: string; due_at: string | null; fulfilled_at: string | null }>(
  clocks: readonly C[] | null | undefined,
): C | null {
  let best: C | null = null
  for (const clock of clocks ?? []) {
    if (clock.state !== 'active' || clock.due_at === null || clock.fulfilled_at !== null) continue
    if (best === null || Date.parse(clock.due_at) < Date.parse(best.due_at!)) best = clock
  }
  return best
}
