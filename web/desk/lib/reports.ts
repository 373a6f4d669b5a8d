/** What the reports' screen asks, as its address and as the API's; what each column is. Pure. */

import type { ReportRow } from '../../shared/supervise'
import type { Query } from '../../shared/http'
import { PERIODS, type Period, type Span } from './periods'

export const KINDS = ['sla', 'service', 'handling', 'resolution', 'backlog', 'callbacks', 'fairness'] as const
export type Kind = (typeof KINDS)[number]
export const BUCKETS = ['none', '15m', '30m', '60m', 'day'] as const
export type Bucket = (typeof BUCKETS)[number]

/** What a report can be asked for. `by`: what its rows can be grouped by; one of them if not `many`. */
interface Takes {
  period: boolean
  agent: boolean
  bucket: boolean
  zone: boolean
  /** Its period is when something is promised for, which may be later than now. */
  ahead: boolean
  many: boolean
  by: readonly string[]
}
const USUAL = { period: true, agent: true, bucket: true, zone: true, ahead: false, many: true }
export const TAKES: Record<Kind, Takes> = {
  sla: { ...USUAL, by: ['team', 'agent', 'channel', 'metric', 'priority'] },
  service: { ...USUAL, by: ['team', 'agent', 'channel', 'priority'] },
  handling: { ...USUAL, by: ['team', 'agent', 'channel'] },
  resolution: { ...USUAL, by: ['team', 'agent', 'channel', 'priority'] },
  // As of now: what is open has no period.
  backlog: { ...USUAL, period: false, bucket: false, zone: false, by: ['team', 'agent', 'channel', 'priority'] },
  callbacks: { ...USUAL, ahead: true, agent: false, bucket: false, many: false, by: ['team', 'owner', 'source', 'kind', 'day'] },
  fairness: { ...USUAL, agent: false, bucket: false, many: false, by: [] },
}

export interface Question {
  kind: Kind
  period: Period
  from: string | null
  to: string | null
  team: number | null
  agent: number | null
  bucket: Bucket
  by: string[]
  zone: string | null
  /** All columns, not only the ones that are read every day. */
  all: boolean
}

type Address = Record<string, unknown>

const text = (value: unknown): string | null => (typeof value === 'string' && value ? value : null)
const id = (value: unknown): number | null => (/^[1-9]\d{0,14}$/.test(text(value) ?? '') ? Number(value) : null)

/** The question of an address; whatever cannot be read has its default, so that a broken link still shows a report. */
export function fromUrl(kind: unknown, query: Address): Question {
  const by = text(query['by'])
  return {
    kind: KINDS.find((k) => k === kind) ?? 'sla',
    period: PERIODS.find((p) => p === query['period']) ?? 'today',
    from: text(query['from']),
    to: text(query['to']),
    team: id(query['team']),
    agent: id(query['agent']),
    bucket: BUCKETS.find((b) => b === query['bucket']) ?? 'none',
    by: by === null ? ['team'] : by.split(',').filter((x) => x !== 'none'),
    zone: text(query['zone']),
    all: query['all'] === '1',
  }
}

export function toUrl(q: Question): Record<string, string> {
  const custom = q.period === 'custom'
  const by = q.by.join(',') || 'none'
  const parts: [string, string | null][] = [
    ['period', q.period === 'today' ? null : q.period], ['from', custom ? q.from : null], ['to', custom ? q.to : null],
    ['team', q.team === null ? null : String(q.team)], ['agent', q.agent === null ? null : String(q.agent)],
    ['bucket', q.bucket === 'none' ? null : q.bucket], ['by', by === 'team' ? null : by], ['zone', q.zone], ['all', q.all ? '1' : null],
  ]
  return Object.fromEntries(parts.filter((p): p is [string, string] => p[1] !== null))
}

/** What the rows of this report can really be grouped by, of what is wished. */
export function groupsOf(q: Question): string[] {
  const takes = TAKES[q.kind]
  const by = q.by.filter((x) => takes.by.includes(x))
  return takes.many ? by : by.slice(0, 1)
}

/** The question for the API; the table and the spreadsheet are asked the same one. `span` null: what has no period. */
export function request(q: Question, span: Span | null): { path: string; query: Query } {
  const takes = TAKES[q.kind]
  const begin = span && new Date(span.begin).toISOString()
  const end = span && new Date(span.end).toISOString()
  if (q.kind === 'fairness') return { path: '/reports/fairness', query: { from: begin, to: end, team_id: q.team } }
  if (q.kind === 'callbacks') return { path: '/callbacks/report', query: { from: begin, to: end, team_id: q.team, group: groupsOf(q)[0] ?? 'none', zone: q.zone } }
  return {
    path: `/reports/${q.kind}`,
    query: {
      ...(takes.period ? { begin, end } : {}), ...(takes.bucket && q.bucket !== 'none' ? { bucket: q.bucket } : {}),
      zone: takes.zone ? q.zone : null, by: groupsOf(q), team_id: q.team, agent_id: q.agent,
    },
  }
}

// --- columns
export type Unit = 'count' | 'percent' | 'span' | 'number' | 'index' | 'word' | 'flag'
export interface Column {
  key: string
  unit: Unit
}

const UNITS: Record<string, Unit> = {
  attempts_per_callback: 'number', hours: 'number', online_hours: 'number', per_hour: 'number', units_per_hour: 'number', hours_source: 'word', absent: 'flag', counts: 'flag',
}

export function unitOf(key: string): Unit {
  if (UNITS[key]) return UNITS[key]
  if (key.endsWith('_pct')) return 'percent'
  return /_(s|ms)$/.test(key) ? 'span' : 'count'
}

/** A number of a column as milliseconds, whatever unit its name ends in. */
export function spanMs(key: string, value: number): number {
  return key.endsWith('_ms') ? value : value * 1000
}

/** The columns that are read every day, of reports that have very many. */
const USUALLY: Partial<Record<Kind, readonly string[]>> = {
  sla: ['decided', 'met', 'breached', 'met_pct', 'elapsed_median_s', 'elapsed_p90_s', 'overrun_p90_s', 'breached_open'],
  handling: ['handled', 'transfer_pct', 'aht_s', 'aht_concurrency_adjusted_s', 'busy_s', 'available_s', 'occupancy_pct', 'utilisation_pct', 'async_held_median_s'],
  service: ['offered', 'answered', 'abandoned', 'callbacks_taken', 'still_waiting', 'service_level_pct', 'asa_s', 'wait_max_s', 'abandoned_pct'],
  callbacks: ['booked', 'kept', 'kept_on_time', 'kept_late', 'kept_on_time_pct', 'not_kept', 'open', 'cancelled_late', 'attempts_per_callback', 'lateness_mean_ms'],
  fairness: ['handled', 'units', 'hours', 'online_hours', 'per_hour', 'units_per_hour', 'offers', 'accepted', 'declined', 'missed'],
}
export const FAIRNESS_COLUMNS = [
  'handled', 'units', 'by_hand', 'hours', 'hours_source', 'online_hours', 'per_hour', 'units_per_hour', 'offers', 'accepted', 'declined', 'missed', 'absent', 'counts',
] as const

export function columnsOf(kind: Kind, keys: readonly string[], all: boolean): Column[] {
  const usual = USUALLY[kind]
  return keys.filter((k) => all || !usual || usual.includes(k)).map((key) => ({ key, unit: unitOf(key) }))
}

export const hasMore = (kind: Kind): boolean => kind in USUALLY

// --- definitions
/** Columns that are explained with another: the parts of a share with the share. */
const WITH: Record<string, string> = {
  met: 'met_pct', breached: 'met_pct', decided: 'unit', answered_within_t: 'service_level_pct', callbacks_taken: 'offered', withdrawn: 'offered', still_waiting: 'offered',
  transferred: 'handled', transfer_pct: 'handled', handled_live: 'aht_s', handled_async: 'async_held_median_s', available_s: 'occupancy_pct',
  reopened: 'reopen_pct', fcr: 'fcr_pct', fcr_judged: 'fcr_pct', kept: 'kept_on_time', kept_late: 'lateness', customer_first_answered: 'abandoned_after_answer_pct',
  abandoned_after_answer: 'abandoned_after_answer_pct', escalated: 'not_kept', cancelled_customer: 'cancelled_late', cancelled_agent: 'cancelled_late', cancelled_system: 'cancelled_late',
}

/** `elapsed_s` is the name of the definition of `elapsed_median_s` and `elapsed_p90_s`, `lateness` of `lateness_mean_ms`. */
function names(definition: string, column: string): boolean {
  return definition.split(', ').some((name) => {
    const stem = name.replace(/_s$/, '')
    return name === column || (column.startsWith(`${stem}_`) && /^(median|mean|p50|p90|max)_m?s$/.test(column.slice(stem.length + 1)))
  })
}

/** Which of the definitions says what a column is: its own, the one it is explained with, or what is counted at all. */
export function definitionOf(definitions: readonly string[], column: string): string | null {
  const find = (name: string): string | undefined => definitions.find((d) => names(d, name))
  return find(column) ?? (WITH[column] ? find(WITH[column]) : undefined) ?? definitions.find((d) => d === 'unit' || d === 'cohort') ?? null
}

// --- what is not known
/** Why there is no number: a word for `reports.none.*`. */
export function whyNothing(kind: Kind, column: string, by: readonly string[], isTotal: boolean): string {
  if (kind === 'sla' && column === 'breached_open' && !isTotal) return 'totalOnly'
  if (kind === 'handling' && (column === 'occupancy_pct' || column === 'available_s') && by.includes('channel')) return 'byChannel'
  if (kind === 'handling' && column === 'utilisation_pct') return 'noShifts'
  if (column === 'lateness_mean_ms' || column === 'lateness_max_ms') return 'noneLate'
  if (column === 'fcr_pct') return 'notJudged'
  return 'nothing'
}

/** Nothing happened: every number of the total is zero or missing. */
export function isEmpty(total: ReportRow): boolean {
  return Object.values(total).every((v) => typeof v !== 'number' || v === 0)
}
