/** The widget's three languages; only the one in use is loaded. */

import en from './locales/en'

export type Texts = Record<keyof typeof en, string>
export type Locale = 'en' | 'uk' | 'ru'
export const LOCALES: readonly Locale[] = ['uk', 'ru', 'en']
export const LOCALE_NAMES: Record<Locale, string> = { uk: 'Українська', ru: 'Русский', en: 'English' }

export type Translate = (key: keyof Texts, params?: Record<string, string | number>) => string

/** The first wish we speak; English when there is none. */
export function chooseLocale(wishes: readonly (string | null | undefined)[]): Locale {
  for (const wish of wishes) {
    const short = wish?.slice(0, 2).toLowerCase()
    const found = LOCALES.find((l) => l === short)
    if (found) return found
  }
  return 'en'
}

export async function loadTexts(locale: Locale): Promise<Texts> {
  if (locale === 'uk') return (await import('./locales/uk')).default
  if (locale === 'ru') return (await import('./locales/ru')).default
  return en
}

export function translator(texts: Texts): Translate {
  return (key, params) => texts[key].replace(/\{(\w+)\}/g, (whole, name: string) => String(params?.[name] ?? whole))
}

export const ENGLISH: Texts = en
