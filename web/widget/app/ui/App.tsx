/** The chat window: header, then the form or the conversation. Owns the dialog's keyboard rules. */

import { useEffect, useRef } from 'preact/hooks'
import type { ChatClient } from '../client'
import { LOCALE_NAMES, LOCALES, type Locale, type Translate } from '../i18n'
import type { Bubble } from '../protocol'
import { Composer } from './Composer'
import { Form } from './Form'
import { Log } from './Log'

export interface AppProps {
  client: ChatClient
  bubbles: Bubble[]
  locale: Locale
  t: Translate
  embedded: boolean
  onClose: () => void
  onLocale: (locale: Locale) => void
}

export function App(props: AppProps) {
  const { client, bubbles, locale, t, embedded, onClose, onLocale } = props
  const dialog = useRef<HTMLDivElement>(null)

  useEffect(() => {
    const keys = (event: KeyboardEvent): void => {
      if (event.key === 'Escape') onClose()
      if (event.key === 'Tab' && embedded) trap(event, dialog.current!)
    }
    document.addEventListener('keydown', keys)
    return () => document.removeEventListener('keydown', keys)
  }, [embedded])

  const { config } = client
  const title = config.title || t('title')
  const offered = LOCALES.filter((l) => !config.languages?.length || config.languages.includes(l))
  return (
    <div class="chat" role="dialog" aria-label={title} ref={dialog}>
      <header>
        <div class="who">
          <h1>{title}</h1>
          <p class={config.team_online === false ? 'away' : 'here'}>{status(client, t)}</p>
        </div>
        {offered.length > 1 && (
          <label class="lang">
            <span class="hidden">{t('language')}</span>
            <select
              value={locale}
              aria-label={t('language')}
              data-test="chat-language"
              onChange={(e) => onLocale(e.currentTarget.value as Locale)}
            >
              {offered.map((l) => (
                <option key={l} value={l} lang={l} aria-label={LOCALE_NAMES[l]} selected={l === locale}>
                  {l.toUpperCase()}
                </option>
              ))}
            </select>
          </label>
        )}
        {embedded && (
          <button type="button" class="icon" aria-label={t('close')} onClick={onClose} data-test="chat-close">
            <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M6 6l12 12M18 6L6 18" /></svg>
          </button>
        )}
      </header>
      {client.phase === 'refused' ? (
        <p class="refused" role="alert">{client.problem || t('refused')}</p>
      ) : client.phase === 'form' ? (
        <Form client={client} t={t} />
      ) : (
        <>
          {client.link === 'offline' && <p class="banner" role="status">{t('reconnecting')}</p>}
          <Log client={client} bubbles={bubbles} locale={locale} t={t} />
          <Composer client={client} t={t} />
        </>
      )}
    </div>
  )
}

function status(client: ChatClient, t: Translate): string {
  if (client.phase === 'starting') return t('connecting')
  const { team_online, expected_reply_s } = client.config
  if (team_online === false) return t('offline')
  if (!expected_reply_s) return t('online')
  const minutes = Math.ceil(expected_reply_s / 60)
  const time =
    minutes < 60
      ? t('minutes', { n: minutes })
      : minutes < 1440
        ? t('hours', { n: Math.ceil(minutes / 60) })
        : t('days', { n: Math.ceil(minutes / 1440) })
  return t('replyTime', { time })
}

/** Keeps Tab inside the window while it is open over somebody's page. */
function trap(event: KeyboardEvent, root: HTMLElement): void {
  const all = [...root.querySelectorAll<HTMLElement>('button, a[href], select, input:not([type=file]), textarea, [tabindex="0"]')]
    .filter((e) => !e.hasAttribute('disabled') && e.offsetParent !== null)
  const first = all[0]
  const last = all[all.length - 1]
  if (!first || !last) return
  if (event.shiftKey && document.activeElement === first) {
    event.preventDefault()
    last.focus()
  } else if (!event.shiftKey && document.activeElement === last) {
    event.preventDefault()
    first.focus()
  }
}
