/** What the supervisors' screens rely on of the API: reports and planning. Written by hand after the OpenAPI document. */

import type { Iso, Page, Ref } from './api'

export type Figure = number | null
/** A row or total of a report: numbers by column, and whom it is about by dimension. */
export type ReportRow = Record<string, unknown>

export interface ReportAnswer {
  report: string
  begin: Iso
  end: Iso
  zone: string
  bucket: string
  by: string[]
  made_at: Iso
  variants: Record<string, string>
  rows: ReportRow[]
  total: Record<string, Figure>
  /** Service only: what "in time" and "short" mean. */
  threshold_s?: number
  short_s?: number
}

export interface CallbackReport {
  variants: Record<string, string>
  columns: string[]
  zone: string
  rows: ReportRow[]
  total: ReportRow
}

export interface FairnessRow {
  agent: Ref
  handled: number
  units: number
  by_hand: number
  hours: number
  hours_source: 'calendar' | 'team_calendar' | 'presence'
  online_hours: number
  per_hour: number
  units_per_hour: number
  offers: number
  accepted: number
  declined: number
  missed: number
  absent: boolean
  counts: boolean
}

export interface FairnessAnswer {
  from: Iso
  to: Iso
  target: number
  groups: { team: Ref; shift: string | null; agents: number; jain: Figure; jain_units: Figure; reached: boolean | null; rows: FairnessRow[] }[]
}

export interface PlanningNote {
  code: string
  text: string
}

export interface ForecastInterval {
  from: Iso
  to: Iso
  /** The team's wall clock, with its offset. */
  local: string
  open: boolean
  arrivals: Record<string, number>
  /** Per channel what has to be handled: arrivals and what waits already. */
  channels: { channel: string; arrivals: number }[]
  needed: number
  /** `needed` with breaks, meetings and illness on top. */
  staff: number
  planned: number
  short: number
}

export interface ForecastChannel {
  channel: string
  aht_s: number
  aht_known: boolean
  patience_s: Figure
  at_once: number
  at_once_observed: Figure
  target: { percent: number; within_s: number }
  formula: 'A' | 'C'
}

export interface ForecastTeam {
  team: Ref
  zone: string
  online: number
  channels: ForecastChannel[]
  intervals: ForecastInterval[]
  short_now: number
  worst: { from: Iso; short: number } | null
}

export interface Forecast {
  at: Iso
  hours: number
  history: { from: Iso | null; to: Iso; requests: number }
  teams: ForecastTeam[]
  notes: PlanningNote[]
}

export interface RiskItem {
  item_id: number
  inquiry: { id: number; number: number; subject: string | null; priority: string } | null
  team_id: number | null
  channel: string
  state: string
  assignee: { id: number; name: string | null } | null
  due_at: Iso
  late: boolean
  probability: number
  expected_at: Iso | null
}

export interface AtRisk {
  at: Iso
  hours: number
  seeds: number
  items: RiskItem[]
  teams: { team: Ref; online: number; waiting: number; late: number; expected_breaches: number }[]
  notes: PlanningNote[]
}

export type Figures = Record<string, Figure>

export interface Columns {
  recorded: Figures
  as_it_was: Figures
  changed: Figures
  difference: Figures
  half_width: Figures
}

export interface WhatIfAgent {
  agent: { id: number | null; name: string }
  recorded: { handled: number; work_h: number } | null
  as_it_was: { work_h: number; busy_pct: Figure } | null
  changed: { work_h: number; busy_pct: Figure } | null
}

export interface WhatIfTeam {
  team: Ref
  channels: (Columns & { channel: string; threshold_s: number })[]
  fairness: { recorded: Figure; as_it_was: Figure; changed: Figure }
  agents: WhatIfAgent[]
}

export interface WhatIfAnswer {
  period: { from: Iso; to: Iso }
  seeds: number[]
  requests: number
  total: Columns
  teams: WhatIfTeam[]
  notes: PlanningNote[]
}

export interface WhatIfRun {
  id: number
  state: 'queued' | 'running' | 'done' | 'failed'
  asked_by: number | null
  question: { from: Iso; to: Iso; change: Record<string, unknown>; seeds: number; team_id: number | null }
  error: string | null
  error_code: string | null
  created_at: Iso
  finished_at: Iso | null
  answer?: WhatIfAnswer | null
}

export type WhatIfRuns = Page<WhatIfRun>
