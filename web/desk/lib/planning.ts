/** What planning's screen makes of the API's answers: verdicts, reasons, and a change written down. Pure. */

import type { Figure, RiskItem } from '../../shared/supervise'

/** Which way a figure is good; what has no way (how many came) is not judged. */
const BETTER: Record<string, 1 | -1> = {
  answered: 1, abandoned: -1, unfinished: -1, service_level_pct: 1, service_level_of_offered_pct: 1, abandoned_pct: -1, asa_s: -1, wait_p50_s: -1, wait_p90_s: -1,
  wait_p99_s: -1, longest_wait_s: -1, breached: -1, breached_pct: -1,
}
export const FIGURES = [
  'offered', 'answered', 'abandoned', 'unfinished', 'service_level_pct', 'service_level_of_offered_pct', 'abandoned_pct', 'asa_s', 'wait_p50_s', 'wait_p90_s', 'wait_p99_s',
  'longest_wait_s', 'promised', 'breached', 'breached_pct',
] as const

export type Verdict = 'better' | 'worse' | 'chance' | 'same'

/** Whether a change helps: a difference within its 95 % interval is chance, and so is one of a single run. */
export function verdict(figure: string, difference: Figure | undefined, halfWidth: Figure | undefined): Verdict | null {
  const way = BETTER[figure]
  if (difference === null || difference === undefined || way === undefined) return null
  if (Math.abs(difference) < 0.05) return 'same'
  if (halfWidth === null || halfWidth === undefined || Math.abs(difference) <= halfWidth) return 'chance'
  return difference * way > 0 ? 'better' : 'worse'
}

export type RiskReason = 'late' | 'lateNobody' | 'nobody' | 'away' | 'inHand' | 'waits' | 'mayBe'

/** Why a request will miss its deadline, as a word for `planning.why.*`. */
export function reasonOf(item: RiskItem): RiskReason {
  const nobody = item.expected_at === null
  if (item.assignee) return nobody ? 'away' : 'inHand'
  if (item.late) return nobody ? 'lateNobody' : 'late'
  if (nobody) return 'nobody'
  return Date.parse(item.expected_at!) > Date.parse(item.due_at) ? 'waits' : 'mayBe'
}

// --- a what-if
export interface Addition {
  team: string
  count: number
  works: 'team_hours' | 'always'
  like: string | null
}
export interface Limit {
  team: string
  channel: 'chat' | 'async' | 'voice' | 'callback'
  max: number
}
export interface Wishes {
  add: Addition[]
  remove: string[]
  limits: Limit[]
}

/**
 * The change as the API takes it. With more at once each fills less of a person, or the limit would never be reached;
 * `loadOf` is how much a person of a team carries, 100 unless the team says otherwise.
 */
export function changeOf(wishes: Wishes, loadOf: (team: string) => number = () => 100): Record<string, unknown> {
  const agents: Record<string, unknown> = {}
  const add = wishes.add.filter((a) => a.team && a.count > 0)
  if (add.length) agents['add'] = add.map((a) => ({ teams: [a.team], count: a.count, ...(a.like ? { like: a.like } : a.works === 'team_hours' ? {} : { works: a.works }) }))
  if (wishes.remove.length) agents['remove'] = [...wishes.remove]
  const teams: Record<string, { channels: Record<string, object> }> = {}
  for (const limit of wishes.limits.filter((l) => l.team && l.max > 0)) {
    const team = (teams[limit.team] ??= { channels: {} })
    team.channels[limit.channel] = { max: limit.max, weight: Math.max(Math.floor(loadOf(limit.team) / limit.max), 1) }
  }
  return { ...(Object.keys(teams).length ? { teams } : {}), ...(Object.keys(agents).length ? { agents } : {}) }
}

/** A change as short parts for a list: [word of `planning.did.*`, what goes into it]. */
export function partsOf(change: Record<string, unknown>): [string, Record<string, string | number>][] {
  const parts: [string, Record<string, string | number>][] = []
  const agents = (change['agents'] ?? {}) as { add?: { teams?: unknown[]; count?: number; name?: string }[]; remove?: unknown[]; change?: object }
  for (const a of agents.add ?? []) parts.push(['added', { n: a.count ?? 1, team: (a.teams ?? []).join(', ') }])
  if (agents.remove?.length) parts.push(['removed', { names: agents.remove.join(', ') }])
  const changed = Object.keys(agents.change ?? {})
  if (changed.length) parts.push(['changed', { names: changed.join(', ') }])
  for (const [team, settings] of Object.entries((change['teams'] ?? {}) as Record<string, Record<string, unknown>>)) {
    const channels = (settings['channels'] ?? {}) as Record<string, { max?: unknown } | null>
    const others = Object.keys(settings).filter((k) => k !== 'channels')
    for (const [channel, values] of Object.entries(channels)) {
      if (typeof values?.max === 'number') parts.push(['limit', { team, channel, n: values.max }])
      else others.push(channel)
    }
    if (others.length) parts.push(['settings', { team, names: others.join(', ') }])
  }
  return parts
}
