/** Instants, spans and names in the language of the desk. */

import { useI18n } from 'vue-i18n'
import { countdown, measured, shortSpan, type Units } from '../../shared/countdown'

const KNOWN_CHANNELS = ['telegram', 'email', 'chat', 'webchat', 'voice', 'phone', 'call', 'telephony', 'desk', 'form', 'callback']

export function channelKey(channel: string | null | undefined): string {
  const key = (channel ?? '').toLowerCase()
  return KNOWN_CHANNELS.includes(key) ? key : 'other'
}

export function useFormat() {
  const { t, te, locale } = useI18n()
  const units = (): Units => ({ d: t('units.d'), h: t('units.h'), m: t('units.m'), s: t('units.s') })
  /** English with a 24-hour clock: a desk compares times all day. */
  const tongue = (): string => (locale.value === 'en' ? 'en-GB' : locale.value)
  const when = (options: Intl.DateTimeFormatOptions, iso: string): string =>
    new Intl.DateTimeFormat(tongue(), options).format(new Date(iso))

  const figure = (value: number, digits: number): string => new Intl.NumberFormat(tongue(), { maximumFractionDigits: digits }).format(value)

  /** Calendar day in the browser's zone, for grouping. */
  const day = (iso: string): string => new Date(iso).toDateString()

  return {
    left: (ms: number) => countdown(ms, units()),
    span: (ms: number) => shortSpan(ms, units()),
    number: (value: number, digits = 0) => figure(value, digits),
    /** A share that comes as 0 to 100. */
    percent: (value: number) => new Intl.NumberFormat(tongue(), { style: 'percent', maximumFractionDigits: 1 }).format(value / 100),
    measured: (ms: number) => measured(ms, units(), (s) => figure(s, 1)),
    /** A day of a zone, with its weekday. */
    dayIn: (iso: string, timeZone: string) => when({ weekday: 'short', day: 'numeric', month: 'short', timeZone }, iso),
    time: (iso: string) => when({ hour: '2-digit', minute: '2-digit' }, iso),
    date: (iso: string) => when({ day: 'numeric', month: 'short', year: 'numeric' }, iso),
    dateTime: (iso: string, timeZone?: string) => {
      const options: Intl.DateTimeFormatOptions = { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' }
      try {
        return when(timeZone ? { ...options, timeZone } : options, iso)
      } catch {
        return when(options, iso) // A zone this browser does not know.
      }
    },
    /** From – to, with what both share said once. */
    range(from: string, to: string | null): string {
      const options: Intl.DateTimeFormatOptions = { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' }
      return to ? new Intl.DateTimeFormat(tongue(), options).formatRange(new Date(from), new Date(to)) : when(options, from)
    },
    dayName(iso: string, nowMs: number): string {
      if (day(iso) === new Date(nowMs).toDateString()) return t('thread.today')
      if (day(iso) === new Date(nowMs - 86_400_000).toDateString()) return t('thread.yesterday')
      return when({ weekday: 'short', day: 'numeric', month: 'long' }, iso)
    },
    day,
    ago: (iso: string, nowMs: number) => {
      const ms = nowMs - Date.parse(iso)
      return ms < 45_000 && ms > -45_000 ? t('time.now') : ms >= 0 ? t('time.ago', { time: shortSpan(ms, units()) }) : t('time.in', { time: shortSpan(-ms, units()) })
    },
    short: (iso: string, nowMs: number) => {
      const ms = nowMs - Date.parse(iso)
      if (ms < 60_000) return t('time.now')
      return ms < 6 * 86_400_000 ? shortSpan(ms, units()) : when({ day: 'numeric', month: 'short' }, iso)
    },
    channel: (channel: string | null | undefined) => t(`channel.${channelKey(channel)}`),
    metric: (metric: string) => (te(`sla.${metric}`) ? t(`sla.${metric}`) : metric.replaceAll('_', ' ')),
    /** A word the server sent and we may or may not have a name for. */
    named: (group: string, value: string | null | undefined) =>
      !value ? '' : te(`${group}.${value}`) ? t(`${group}.${value}`) : value.replaceAll('_', ' '),
    size: (bytes: number | null | undefined) => {
      if (bytes === null || bytes === undefined) return ''
      if (bytes < 1024) return `${bytes} B`
      return bytes < 1_048_576 ? `${Math.round(bytes / 1024)} kB` : `${(bytes / 1_048_576).toFixed(1)} MB`
    },
    money: (minor: number | null, currency: string | null) => {
      if (minor === null || !currency) return ''
      try {
        const format = new Intl.NumberFormat(tongue(), { style: 'currency', currency })
        return format.format(minor / 10 ** (format.resolvedOptions().maximumFractionDigits ?? 2))
      } catch {
        return `${minor / 100} ${currency}`
      }
    },
  }
}

/** Two letters for a round portrait. */
export function initials(name: string | null | undefined): string {
  const words = (name ?? '').trim().split(/\s+/).filter(Boolean)
  return ((words[0]?.[0] ?? '?') + (words[1]?.[0] ?? '')).toUpperCase()
}

/** A hue for a name, steady over reloads. */
export function hue(name: string | null | undefined): number {
  let h = 7
  for (const c of name ?? '') h = (h * 31 + c.codePointAt(0)!) % 360
  return h
}
