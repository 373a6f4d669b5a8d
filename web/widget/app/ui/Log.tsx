/** The conversation: bubbles by day, states, bot choices, typing. Text is only ever text, never markup. */

import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { ChatClient } from '../client'
import { linkify } from '../../../shared/linkify'
import { dayKey, dayName, fileSize, timeOf } from '../format'
import type { Locale, Translate } from '../i18n'
import type { Bubble, ChatAttachment } from '../protocol'

interface LogProps {
  client: ChatClient
  bubbles: Bubble[]
  locale: Locale
  t: Translate
}

export function Log({ client, bubbles, locale, t }: LogProps) {
  const box = useRef<HTMLDivElement>(null)
  const atEnd = useRef(true)
  const count = bubbles.length
  const typing = client.typingName

  useLayoutEffect(() => {
    const own = bubbles[count - 1]?.mine
    if (box.current && (atEnd.current || own)) box.current.scrollTop = box.current.scrollHeight
  }, [count, typing])

  const greeting = client.config.greeting
  const nothing = count === 0
  let day = ''
  return (
    <div
      class="log"
      role="log"
      aria-live="polite"
      aria-relevant="additions text"
      aria-label={t('messages')}
      tabIndex={0}
      ref={box}
      onScroll={(e) => {
        const el = e.currentTarget
        atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < 60
      }}
    >
      <div class="spring" />
      {nothing && greeting && (
        <div class="row theirs">
          <div class="bubble">{greeting}</div>
        </div>
      )}
      {bubbles.map((bubble, index) => {
        const key = dayKey(bubble.at)
        const newDay = key !== day
        day = key
        const before = bubbles[index - 1]
        const sameSpeaker = !newDay && before?.mine === bubble.mine && before?.author.name === bubble.author.name
        const last = index === count - 1
        return [
          newDay && (
            <p class="day" key={`d${key}`}>{dayName(bubble.at, locale, t('today'), t('yesterday'))}</p>
          ),
          <Row key={bubble.key} {...{ bubble, client, locale, t, last, sameSpeaker }} />,
        ]
      })}
      {typing !== null && (
        <div class="row theirs" data-test="chat-typing">
          <div class="bubble dots" aria-label={t('typing', { name: typing || t('agent') })}><i /><i /><i /></div>
        </div>
      )}
    </div>
  )
}

interface RowProps {
  bubble: Bubble
  client: ChatClient
  locale: Locale
  t: Translate
  last: boolean
  sameSpeaker: boolean
}

function Row({ bubble, client, locale, t, last, sameSpeaker }: RowProps) {
  const { mine, state } = bubble
  const name = mine ? t('you') : bubble.author.name || t(bubble.author.kind === 'bot' ? 'bot' : 'agent')
  // Choices are offered only on the newest words of the bot: an old menu answered late confuses both sides.
  const choices = last && bubble.buttons.length > 0
  return (
    <div class={`row ${mine ? 'mine' : 'theirs'}${sameSpeaker ? ' same' : ''}`} data-test="chat-message" data-state={state}>
      {sameSpeaker || mine ? <span class="hidden">{name}:</span> : <span class="name">{name}</span>}
      <div class={`bubble${state === 'failed' ? ' failed' : ''}`}>
        {bubble.text && <Text text={bubble.text} />}
        {bubble.attachments.map((a) => <File key={a.id} file={a} client={client} t={t} />)}
      </div>
      {choices && (
        <div class="choices" role="group" aria-label={t('choose')}>
          {bubble.buttons.map((line, i) => (
            <div class="line" key={i}>
              {line.map((choice) => choice.url && /^https?:/.test(choice.url) ? (
                <a key={choice.value} class="choice" href={choice.url} target="_blank" rel="noopener noreferrer">{choice.label}</a>
              ) : (
                <button
                  type="button"
                  key={choice.value}
                  data-test="chat-choice"
                  onClick={() => client.say(choice.label, { action: choice.value })}
                >
                  {choice.label}
                </button>
              ))}
            </div>
          ))}
        </div>
      )}
      <span class="meta">
        <time dateTime={bubble.at}>{timeOf(bubble.at, locale)}</time>
        {bubble.edited && ` · ${t('edited')}`}
        {mine && state !== 'failed' && ` · ${stateName(state, t)}`}
        {mine && state === 'failed' && (
          <>
            <span class="bad"> · {t('failed')}{bubble.problem ? `: ${bubble.problem}` : ''} </span>
            <button type="button" class="link" onClick={() => client.retry(bubble.clientId!)} data-test="chat-retry">
              {t('retry')}
            </button>
          </>
        )}
      </span>
    </div>
  )
}

function Text({ text }: { text: string }) {
  return (
    <>
      {linkify(text).map((piece, i) =>
        piece.href ? (
          <a key={i} href={piece.href} target="_blank" rel="noopener noreferrer nofollow">{piece.text}</a>
        ) : (
          <span key={i}>{piece.text}</span>
        ),
      )}
    </>
  )
}

function File({ file, client, t }: { file: ChatAttachment; client: ChatClient; t: Translate }) {
  const [problem, setProblem] = useState(false)
  const open = async (): Promise<void> => {
    if (!file.url) return
    setProblem(false)
    try {
      const link = document.createElement('a')
      link.href = URL.createObjectURL(await client.download(file.url))
      link.download = file.name
      link.click()
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
    } catch {
      setProblem(true)
    }
  }
  return (
    <>
      <button type="button" class="file" disabled={!file.url} onClick={() => void open()} aria-label={t('download', { name: file.name })}>
        <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M7 3h7l4 4v14H7zM14 3v4h4" /></svg>
        <span>{file.name}</span>
        <small>{fileSize(file.size)}</small>
      </button>
      {problem && <small class="bad" role="alert">{t('downloadFailed')}</small>}
    </>
  )
}

function stateName(state: Bubble['state'], t: Translate): string {
  if (state === 'sending') return t('sending')
  if (state === 'delivered') return t('delivered')
  if (state === 'read') return t('read')
  return t('sent')
}
