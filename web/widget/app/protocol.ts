/** What the chat server says and hears: the frames and answers of `/chat/v1`. */

export type ChatState = 'sending' | 'queued' | 'sent' | 'delivered' | 'read' | 'received' | 'failed' | 'unknown'

export interface ChatButton {
  label: string
  value: string
  /** A button that leads somewhere instead of answering. */
  url?: string
}

export interface ChatAttachment {
  /** A number in messages, an opaque name for a file just uploaded. */
  id: number | string
  name: string
  mime: string
  size: number | null
  url?: string | null
}

export type InputType = 'text' | 'tel' | 'email' | 'number' | 'date' | 'url' | 'checkbox'

export interface PreChatField {
  name: string
  label?: string
  required?: boolean
  type?: InputType
}

export interface ChatConfig {
  title?: string | null
  greeting?: string | null
  language?: string | null
  languages?: string[]
  pre_chat?: (PreChatField | string)[] | null
  team_online?: boolean
  expected_reply_s?: number | null
  max_text?: number
  max_upload?: number
  color?: string | null
}

export interface SessionAnswer {
  session: string
  visitor_id: number | string
  visitor_token: string
  conversation_id: number | null
  cursor: number
  config: ChatConfig
}

export interface MessageEventFrame {
  type: 'message'
  seq: number
  id: number
  client_id?: string | null
  direction: 'in' | 'out'
  author?: { kind: string; name?: string | null } | null
  text: string | null
  html?: string | null
  buttons?: ChatButton[][] | null
  attachments?: ChatAttachment[] | null
  at: string
  state?: ChatState
  deleted?: boolean
}

export type ServerFrame =
  | { type: 'ready'; cursor: number }
  | MessageEventFrame
  | { type: 'status'; message_seq: number; state: ChatState }
  | { type: 'edit'; seq?: number; message_seq?: number; text?: string; deleted?: boolean; buttons?: ChatButton[][] | null }
  | { type: 'delete'; seq?: number; message_seq?: number }
  | { type: 'typing'; name?: string | null }
  | { type: 'read'; seq: number }
  | { type: 'agent_joined'; name?: string | null }
  | { type: 'reset'; cursor: number }
  | { type: 'ack'; client_id: string; seq: number; duplicate?: boolean }
  | { type: 'error'; client_id?: string; code: string; detail?: string; retry_after_s?: number }
  | { type: 'ping' }
  | { type: 'pong' }

/** One bubble. A message of ours is `pending` until the server's own copy replaces it, found by `client_id`. */
export interface Bubble {
  key: string
  seq: number | null
  clientId: string | null
  mine: boolean
  author: { kind: string; name: string | null }
  text: string
  buttons: ChatButton[][]
  attachments: ChatAttachment[]
  at: string
  state: ChatState
  edited: boolean
  problem: string | null
}

export interface Outgoing {
  client_id: string
  text: string
  at: string
  action?: string
  reply_to?: number
  attachments?: ChatAttachment[]
}

export class ChatError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterMs: number | null = null,
  ) {
    super(message)
    this.name = 'ChatError'
  }
}
