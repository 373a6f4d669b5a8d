/** Starts the chat: reads the address, greets the loader, opens the client, draws. */

import { render } from 'preact'
import { ChatClient } from './client'
import { BrowserStore, Host, safeOrigin, subjectOf, type HostInit } from './host'
import { chooseLocale, loadTexts, translator, type Locale, type Texts } from './i18n'
import { App } from './ui/App'

const query = new URLSearchParams(location.search)
const inboxKey = query.get('inbox') ?? ''
const base = new URL('/chat/v1', location.href).href
const root = document.getElementById('app')!

let client: ChatClient | null = null
let init: HostInit = {}
let open = true
let locale: Locale = 'en'
let localeChosen = false
let texts: Texts
let lastUnread = 0
let seenUpTo = 0

const host = new Host(safeOrigin(query.get('origin')), {
  onOpened() {
    open = true
    client?.nudge()
    draw()
    focusComposer()
  },
  onClosed() {
    open = false
    draw()
  },
  onIdentify(jwt) {
    if (subjectOf(jwt) === subjectOf(init.identity_jwt)) {
      init.identity_jwt = jwt
      return
    }
    init.identity_jwt = jwt
    void begin()
  },
})

async function begin(): Promise<void> {
  client?.stop()
  const store = new BrowserStore(`switchboard:${inboxKey}`, init.visitor_token ?? null)
  store.identify(subjectOf(init.identity_jwt))
  init.visitor_token = null // Used once: a changed identity must not fall back to the former person's token.
  seenUpTo = 0
  const started = new ChatClient({
    base,
    inboxKey,
    store,
    page: init.page,
    referrer: init.referrer,
    utm: init.utm,
    locale,
    identityJwt: init.identity_jwt,
    onChange: draw,
    onToken: (token) => host.tell({ type: 'switchboard:token', visitor_token: token }),
  })
  client = started
  draw()
  await started.start()
  if (client !== started) return
  paint(started.config.color)
  if (!localeChosen && started.config.languages?.length && !started.config.languages.includes(locale)) {
    await speak(chooseLocale([started.config.language]))
  }
  draw()
  focusComposer()
}

async function speak(next: Locale): Promise<void> {
  texts = await loadTexts(next)
  locale = next
  document.documentElement.lang = next
  draw()
}

function draw(): void {
  if (!client || !texts) return
  const looking = open && document.visibilityState === 'visible' && document.hasFocus()
  if (looking) {
    client.seen()
    seenUpTo = client.log.lastSeq
  }
  const bubbles = client.bubbles()
  const unread = open ? 0 : bubbles.filter((b) => !b.mine && (b.seq ?? 0) > seenUpTo).length
  if (unread !== lastUnread) {
    lastUnread = unread
    host.tell({ type: 'switchboard:unread', count: unread })
  }
  render(
    <App
      client={client}
      bubbles={bubbles}
      locale={locale}
      t={translator(texts)}
      embedded={host.embedded}
      onClose={() => host.tell({ type: 'switchboard:close' })}
      onLocale={(next) => {
        localeChosen = true
        void speak(next)
      }}
    />,
    root,
  )
}

/** The inbox's colour, set through the CSSOM because the page forbids style attributes in markup. */
function paint(color: string | null | undefined): void {
  if (!color || !/^#[0-9a-f]{6}$/i.test(color)) return
  const [r, g, b] = [1, 3, 5].map((at) => {
    const c = parseInt(color.slice(at, at + 2), 16) / 255
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  }) as [number, number, number]
  const light = 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.4
  document.documentElement.style.setProperty('--accent', color)
  document.documentElement.style.setProperty('--on-accent', light ? '#111' : '#fff')
  host.tell({ type: 'switchboard:color', color })
}

function focusComposer(): void {
  if (open) document.querySelector<HTMLElement>('[data-focus]')?.focus({ preventScroll: true })
}

document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') client?.nudge()
  draw()
})
addEventListener('focus', draw)
addEventListener('online', () => client?.nudge())
addEventListener('offline', () => client?.lost())

void (async () => {
  init = await host.greet()
  open = init.opened ?? true
  await speak(chooseLocale([init.locale, ...navigator.languages]))
  await begin()
})()
