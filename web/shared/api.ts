/**
 * The types of the HTTP API and the live feed, written by hand after the API contract.
 *
 * Instants are ISO 8601 UTC strings here, as they are on the wire; durations end in `_ms`.
 * `npm run gen:api` writes `shared/openapi.gen.ts` from a committed `openapi.json`; that file is for comparison and
 * for new screens, this one says what the screens rely on.
 */

export type Iso = string
export type Role = 'agent' | 'supervisor' | 'admin'
export type PresenceKind = 'online' | 'break' | 'dnd' | 'offline' | 'away_reassign' | 'wrapup'
export type InquiryKind = 'ticket' | 'lead'
export type InquiryStatus = 'new' | 'open' | 'pending' | 'hold' | 'solved' | 'closed'
export type Stage = 'new' | 'contacted' | 'qualified' | 'proposal' | 'won' | 'lost'
export type Priority = 'low' | 'normal' | 'high' | 'urgent'
export type Direction = 'in' | 'out' | 'internal'
export type MessageKind = 'text' | 'note' | 'call' | 'system' | 'callback'
export type MessageState = 'received' | 'queued' | 'sending' | 'sent' | 'delivered' | 'read' | 'failed' | 'unknown'
export type AuthorKind = 'customer' | 'agent' | 'bot' | 'system'
export type CallbackState = 'scheduled' | 'due' | 'offered' | 'dialling' | 'paused' | 'done' | 'cancelled' | 'escalated'
export type CallOutcome = 'answered' | 'busy' | 'no_answer' | 'machine' | 'rejected' | 'failed' | 'invalid_number'

export const STATUSES: readonly InquiryStatus[] = ['new', 'open', 'pending', 'hold', 'solved', 'closed']
export const STAGES: readonly Stage[] = ['new', 'contacted', 'qualified', 'proposal', 'won', 'lost']
export const PRIORITIES: readonly Priority[] = ['low', 'normal', 'high', 'urgent']
export const OUTCOMES: readonly CallOutcome[] = [
  'answered', 'busy', 'no_answer', 'machine', 'rejected', 'failed', 'invalid_number',
]

export interface Page<T> {
  items: T[]
  next: string | null
}

export interface Ref {
  id: number
  name: string
}

export interface Slot {
  channel: string
  used: number
  max: number
}

export interface Agent {
  id: number
  name: string
  email: string
  role: Role
  languages: string[]
  skills: { skill: string; level: number }[]
  teams: number[]
  extension: string | null
  active: boolean
  presence: PresenceKind
  load: { used: number; max: number }
  slots: Slot[]
  open_count: number
  state_since?: Iso | null
  language?: string | null
}

export interface Presence {
  presence: PresenceKind
  reason?: string | null
  lease_until: Iso | null
  capacity: Slot[]
  load_used: number
  load_max: number
}

export interface Team {
  id: number
  name: string
  calendar_id?: number | null
  channels?: unknown
  settings?: { load_max?: number }
}

export interface Me {
  agent: Agent
  presence: Presence
  teams: Team[]
  permissions: string[]
  feed_cursor: string | number
}

export interface Inbox {
  id: number
  key: string
  channel: string
  name: string
  team_id: number | null
  default_kind: InquiryKind
  enabled: boolean
  address?: string | null
  config: Record<string, unknown>
  hook_url?: string | null
  health?: { state?: string; detail?: string | null; checked_at?: Iso | null } | string | null
}

export interface Identity {
  id: number
  kind: string
  value: string
  verified: boolean
  account?: string | null
  evidence?: { kind: string; at: Iso; source?: string | null }[]
}

export interface Contact {
  id: number
  name: string | null
  company_id: number | null
  company?: Ref | null
  manager_id: number | null
  locale: string | null
  timezone: string | null
  vip: boolean
  blocked: boolean
  attributes: Record<string, unknown>
  identities: Identity[]
  created_at: Iso
  merged_into_id: number | null
}

export interface SlaClock {
  id?: number
  inquiry_id?: number
  metric: string
  instance: number
  state: 'idle' | 'active' | 'paused' | 'fulfilled' | 'cancelled'
  due_at: Iso | null
  breach_at: Iso | null
  breached_at: Iso | null
  target_ms: number | null
  elapsed_ms: number | null
  fulfilled_at: Iso | null
}

export interface Inquiry {
  id: number
  number: number | string
  kind: InquiryKind
  status: InquiryStatus
  stage: Stage | null
  subject: string | null
  channel: string
  priority: Priority
  inbox_id: number | null
  conversation_id: number | null
  contact: { id: number; name: string | null; vip?: boolean } | null
  team: Ref | null
  assignee: Ref | null
  tags: string[]
  language: string | null
  source: string | null
  value_minor: number | null
  currency: string | null
  outcome: string | null
  fields: Record<string, unknown> | null
  held_by_bot: boolean
  created_at: Iso
  updated_at: Iso
  solved_at: Iso | null
  last_message: { text: string; at: Iso; author_kind: AuthorKind; direction: 'in' | 'out' | 'internal' } | null
  unread: boolean
  merged_into_id?: number | null
  sla: SlaClock[]
  version?: number
}

/** A file just uploaded and not yet part of a message: its id is an opaque name, to be given back in `attachments`. */
export interface Upload {
  id: string
  name: string
  mime: string
  size: number
}

export interface Attachment {
  /** A number in a message; an upload's name in words of ours that the server does not have yet. */
  id: number | string
  name: string
  mime: string
  size: number | null
  state?: string
  url?: string | null
}

export interface Message {
  id: number
  seq: number
  conversation_id: number
  inquiry_id: number | null
  direction: Direction
  kind: MessageKind
  author: { kind: AuthorKind; id: number | null; name: string | null }
  text: string
  html: string | null
  quoted_text: string | null
  attachments: Attachment[]
  state: MessageState
  error: string | null
  client_id: string | null
  reply_to_id: number | null
  created_at: Iso
  occurred_at: Iso | null
  meta: Record<string, unknown> | null
}

export interface Offer {
  id: number
  item_id: number
  inquiry: Partial<Inquiry> | null
  call: Partial<Call> | null
  callback: Partial<Callback> | null
  channel: string
  agent_id: number
  state: 'open' | 'accepted' | 'declined' | 'expired' | 'revoked'
  created_at: Iso
  expires_at: Iso
  why_text: string | null
}

export interface CallbackAttempt {
  n: number
  at: Iso
  agent: Ref | null
  outcome: CallOutcome | null
  call_id: number | null
  /** `preview`: a card for the agent; `manual`: dialled by hand; else how the PBX connects. */
  style: string | null
}

export type CallbackMode = 'preview' | 'agent_first' | 'customer_first'

/** One of those who are asked to make a call, in order. No result: not asked yet. */
export interface ChainLink {
  agent: Ref | null
  role: string
  result: string | null
  from?: Iso | null
  until?: Iso | null
}

/** A half hour that a customer may be offered; `free` is null where only the calendar is known. */
export interface FreeSlot {
  start: Iso
  end: Iso
  capacity: number | null
  taken: number
  free: number | null
  planned: number | null
}

export interface FreeSlots {
  team_id: number | null
  timezone: string | null
  items: FreeSlot[]
}

export interface Callback {
  id: number
  contact: { id: number; name: string | null } | null
  inquiry_id: number | null
  phone: string | null
  timezone: string | null
  window_start: Iso
  window_end: Iso | null
  due_at: Iso | null
  state: CallbackState
  owner: Ref | null
  team: Ref | null
  attempts: CallbackAttempt[]
  max_attempts: number
  next_attempt_at: Iso | null
  outcome: string | null
  note: string | null
  created_by: unknown
  escalated_at: Iso | null
  /** `place`: a kept place in the queue; else a promise for a window. */
  kind: string
  mode: CallbackMode
  kept_by: Iso | null
  kept_at: Iso | null
  paused_at: Iso | null
  pause_cause?: string | null
  escalation: string | null
  ended_by: string | null
  end_reason?: string | null
  chain: ChainLink[]
}

/** A person's notice of one minute: what he was told, gathered. At most ten lines come with it; `count` has all. */
export interface Notification {
  id: number
  kind: 'sla' | 'page' | 'storm'
  count: number
  created_at: Iso
  updated_at: Iso
  read_at: Iso | null
  lines: { text: string; inquiry_id: number | null; at: Iso; data: Record<string, unknown> }[]
}

export interface Notifications extends Page<Notification> {
  /** Counted up to 100. */
  unread: number
}

/** A call for help of a team, repeated until somebody says that he looks after it. */
export interface OnCallPage {
  id: number
  team_id: number | null
  inquiry_id: number
  state: 'open' | 'acknowledged' | 'answered' | 'exhausted'
  times: number
  asked: number
  next_at: Iso | null
  acknowledged_by: number | null
  acknowledged_at: Iso | null
  created_at: Iso
}

export interface Call {
  id: number
  direction: string
  from: string | null
  to: string | null
  did: string | null
  state: string
  disposition: string | null
  started_at: Iso | null
  answered_at: Iso | null
  ended_at: Iso | null
  contact: { id: number; name: string | null } | null
  inquiry_id: number | null
  agent: Ref | null
  legs?: unknown[]
}

export interface Why {
  state: string
  text: string
  decisions: { at: Iso; trigger: string; outcome: string; text: string; why: unknown }[]
  waiting: {
    step: number | string | { no: number; of: number; scope?: string } | null
    text?: string
    widens_at: Iso | null
    agents: { agent: Ref; reason: string; text: string }[]
  } | null
}

export interface TimelineItem {
  at: Iso
  kind: 'message' | 'call' | 'inquiry' | 'callback' | 'event'
  [key: string]: unknown
}

export interface InboundRow {
  id: number
  inbox_id: number | null
  received_at: Iso
  state: 'received' | 'done' | 'quarantined' | 'discarded'
  error: string | null
  size: number | null
  content_type: string | null
  dedupe_key: string | null
}

export interface InboundDetail extends InboundRow {
  body?: string | null
  body_encoding?: 'text' | 'base64'
  text?: string | null
  base64?: string | null
  headers?: Record<string, string> | [string, string][] | null
}

export interface SlaPolicy {
  id: number
  name?: string
  position?: number
  version?: number
  enabled?: boolean
  conditions?: unknown
  targets?: Record<string, Record<string, { minutes?: number; business?: boolean } | number | null>>
  [key: string]: unknown
}

export interface WallTeam {
  team: Ref
  waiting: number
  longest_wait_ms: number | null
  oldest_waiting_at: Iso | null
  breached_open: number
  due_soon: number
  /** What the next one would be told, in the live channels in which somebody waits; no minutes where too little is known. */
  expected_wait: { channel: string; low_min: number | null; high_min: number | null }[]
  agents_online: number
  agents_total: number
}

export interface Wall {
  at: Iso
  teams: WallTeam[]
  agents: Agent[]
  breaches: { inquiry: Partial<Inquiry> & { id: number }; metric: string; breach_at: Iso }[]
  callbacks: { due: number; escalated: number }
}

export interface Problem {
  type?: string
  title?: string
  status: number
  detail?: string
  code?: string
  params?: Record<string, unknown>
  errors?: { loc: (string | number)[]; msg: string }[]
  log_id?: string
}

/** One stored fact from the feed. `cursor` is opaque: it is only ever handed back as `?after=`. */
export interface FeedEvent {
  type: 'event'
  cursor: string | number
  id: number
  kind: string
  at: Iso
  actor?: unknown
  subject?: { kind: string; id: number } | null
  inquiry_id?: number | null
  conversation_id?: number | null
  data: Record<string, unknown>
}
