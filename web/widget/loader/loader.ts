/**
 * The script on a customer's site. Owns the button and the frame; the chat itself lives in the iframe.
 *
 * `<script async src="https://desk.example/widget.js" data-inbox="KEY">` is all a page needs. Optional attributes:
 * `data-locale`, `data-color` (#rrggbb), `data-position` (right | left), `data-label`, `data-identity` (a signed JWT).
 * The page may then call `Switchboard.open()`, `.close()`, `.toggle()`, `.identify(jwt | null)`.
 *
 * Made for hosts with a strict Content-Security-Policy: no eval, no inline style attribute, no injected markup; it
 * needs only `script-src` and `frame-src` of the server. Nothing is fetched and no frame exists before the first open.
 */

interface Api {
  open(): void
  close(): void
  toggle(): void
  identify(jwt: string | null): void
}

const LABELS: Record<string, [open: string, close: string, title: string]> = {
  en: ['Open chat', 'Close chat', 'Chat'],
  uk: ['Відкрити чат', 'Закрити чат', 'Чат'],
  ru: ['Открыть чат', 'Закрыть чат', 'Чат'],
}

const SHEET = `
:host{all:initial}
button{position:fixed;bottom:20px;right:20px;width:60px;height:60px;border:0;border-radius:50%;padding:0;cursor:pointer;
background:var(--c);color:var(--f);box-shadow:0 6px 20px rgba(15,23,42,.28);z-index:2147483646;display:grid;
place-items:center;transition:transform .15s,box-shadow .15s}
button:hover{transform:translateY(-2px);box-shadow:0 10px 26px rgba(15,23,42,.32)}
button:focus-visible{outline:3px solid var(--c);outline-offset:3px;box-shadow:0 0 0 3px #fff}
svg{width:28px;height:28px;fill:none;stroke:currentColor;stroke-width:2;stroke-linecap:round;stroke-linejoin:round}
b{position:absolute;top:-3px;right:-3px;min-width:22px;height:22px;border-radius:11px;background:#c81e1e;color:#fff;
font:600 13px/22px system-ui,sans-serif;text-align:center;padding:0 5px;box-sizing:border-box}
b:empty{display:none}
iframe{position:fixed;bottom:92px;right:20px;width:392px;height:min(660px,calc(100vh - 112px));border:0;
border-radius:16px;box-shadow:0 16px 48px rgba(15,23,42,.28);z-index:2147483647;background:transparent;
color-scheme:light dark}
.left button,.left iframe{right:auto;left:20px}
[hidden]{display:none!important}
@media (max-width:480px){iframe,.left iframe{left:0;right:0;top:0;bottom:0;width:100%;height:100%;border-radius:0}
.open button{display:none}}
@media (prefers-reduced-motion:reduce){button{transition:none}button:hover{transform:none}}`

const BUBBLE = 'M4 5.5h16v11H10l-4.5 3.8v-3.8H4zM8.5 9.5h7M8.5 12.8h4.5'
const CROSS = 'M6 6l12 12M18 6L6 18'

function begin(script: HTMLScriptElement): void {
  const inbox = script.dataset['inbox']
  if (!inbox) {
    console.warn('Switchboard: the script tag needs data-inbox="…".')
    return
  }
  const server = new URL(script.src).origin
  const memory = `switchboard:${inbox}`
  const wanted = script.dataset['locale'] || document.documentElement.lang || navigator.language || 'en'
  const label = LABELS[wanted.slice(0, 2).toLowerCase()] ?? LABELS['en']!
  let identity = script.dataset['identity'] ?? null
  let frame: HTMLIFrameElement | null = null
  let ready = false
  let opened = false

  const host = document.createElement('div')
  host.id = 'switchboard-chat'
  const root = host.attachShadow({ mode: 'open' })
  const sheet = new CSSStyleSheet()
  sheet.replaceSync(SHEET)
  root.adoptedStyleSheets = [sheet]
  const box = document.createElement('div')
  if (script.dataset['position'] === 'left') box.className = 'left'
  const paint = (color: string | undefined): void => {
    const hex = color && /^#[0-9a-f]{6}$/i.test(color) ? color : '#1d5fd1'
    box.style.setProperty('--c', hex)
    box.style.setProperty('--f', luminance(hex) > 0.4 ? '#111' : '#fff')
  }
  paint(script.dataset['color'])

  const button = document.createElement('button')
  button.type = 'button'
  button.dataset['test'] = 'chat-open'
  button.setAttribute('aria-haspopup', 'dialog')
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('viewBox', '0 0 24 24')
  svg.setAttribute('aria-hidden', 'true')
  const path = document.createElementNS(svg.namespaceURI, 'path')
  svg.append(path)
  const badge = document.createElement('b')
  button.append(svg, badge)
  box.append(button)
  root.append(box)

  const say = (message: object): void => {
    if (ready) frame?.contentWindow?.postMessage(message, server)
  }

  const render = (): void => {
    button.setAttribute('aria-expanded', String(opened))
    button.setAttribute('aria-label', (opened ? label[1] : script.dataset['label'] || label[0]) +
      (badge.textContent && !opened ? ` (${badge.textContent})` : ''))
    path.setAttribute('d', opened ? CROSS : BUBBLE)
    box.classList.toggle('open', opened)
    if (frame) frame.hidden = !opened
  }

  const open = (): void => {
    opened = true
    if (!frame) {
      frame = document.createElement('iframe')
      frame.title = script.dataset['label'] || label[2]
      frame.allow = 'clipboard-write'
      frame.src = `${server}/chat/app/?inbox=${encodeURIComponent(inbox)}&origin=${encodeURIComponent(location.origin)}`
      box.append(frame)
    }
    badge.textContent = ''
    render()
    frame.focus()
    say({ type: 'switchboard:opened' })
  }

  const close = (): void => {
    if (!opened) return
    opened = false
    render()
    button.focus()
    say({ type: 'switchboard:closed' })
  }

  const remembered = (): string | null => {
    try {
      return localStorage.getItem(memory)
    } catch {
      return null // Storage is forbidden here; the frame has its own.
    }
  }

  const init = (): void => {
    const utm: Record<string, string> = {}
    new URLSearchParams(location.search).forEach((value, name) => {
      if (name.startsWith('utm_') && Object.keys(utm).length < 20) utm[name.slice(4)] = value.slice(0, 200)
    })
    say({
      type: 'switchboard:init',
      visitor_token: remembered(),
      identity_jwt: identity,
      locale: wanted,
      page: location.href.slice(0, 1000),
      referrer: document.referrer.slice(0, 1000),
      utm,
      opened,
    })
  }

  addEventListener('message', (event: MessageEvent) => {
    // Only our own frame, only from our own server: any page may post anything to a window.
    if (event.origin !== server || !frame || event.source !== frame.contentWindow) return
    const data = event.data as { type?: string; visitor_token?: string | null; count?: number; color?: string } | null
    switch (data?.type) {
      case 'switchboard:ready':
        ready = true
        init()
        break
      case 'switchboard:token':
        try {
          if (data.visitor_token) localStorage.setItem(memory, data.visitor_token)
          else localStorage.removeItem(memory)
        } catch {
          // Forbidden storage: nothing to keep.
        }
        break
      case 'switchboard:close':
        close()
        break
      case 'switchboard:color':
        if (!script.dataset['color']) paint(data.color)
        break
      case 'switchboard:unread':
        badge.textContent = !opened && data.count ? String(Math.min(data.count, 99)) : ''
        render()
        break
    }
  })

  button.addEventListener('click', () => (opened ? close() : open()))
  addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && opened && event.composedPath().includes(host)) close()
  })

  const api: Api = {
    open,
    close,
    toggle: () => (opened ? close() : open()),
    identify(jwt) {
      identity = jwt
      say({ type: 'switchboard:identify', identity_jwt: jwt })
    },
  }
  ;(window as unknown as { Switchboard: Api }).Switchboard = api
  render()
  const mount = (): void => void document.body.append(host)
  if (document.body) mount()
  else addEventListener('DOMContentLoaded', mount)
}

/** Relative luminance of `#rrggbb`, 0 to 1 (WCAG 2.2), to choose black or white on top of it. */
function luminance(hex: string): number {
  const part = (at: number): number => {
    const c = parseInt(hex.slice(at, at + 2), 16) / 255
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  }
  return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

const own = document.currentScript as HTMLScriptElement | null
const marked = window as unknown as { Switchboard?: Api }
if (own && !marked.Switchboard) begin(own)
