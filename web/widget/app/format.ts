/** Sizes, times and days as the chat shows them. */

import type { Locale } from './i18n'

export function fileSize(bytes: number | null | undefined): string {
  if (!bytes) return ''
  if (bytes < 1024) return `${bytes} B`
  if (bytes < 1_048_576) return `${Math.round(bytes / 1024)} kB`
  return `${(bytes / 1_048_576).toFixed(1)} MB`
}

export function timeOf(iso: string, locale: Locale): string {
  return new Intl.DateTimeFormat(locale, { hour: '2-digit', minute: '2-digit' }).format(new Date(iso))
}

export function dayKey(iso: string): string {
  const d = new Date(iso)
  return `${d.getFullYear()}-${d.getMonth()}-${d.getDate()}`
}

export function dayName(iso: string, locale: Locale, today: string, yesterday: string): string {
  const key = dayKey(iso)
  if (key === dayKey(new Date().toISOString())) return today
  if (key === dayKey(new Date(Date.now() - 86_400_000).toISOString())) return yesterday
  return new Intl.DateTimeFormat(locale, { day: 'numeric', month: 'long' }).format(new Date(iso))
}
