/** The desk's languages. Only the one in use is loaded; English is the fallback of last resort for nothing: the
 * bundles are held complete by a test. */

import { createI18n, type I18n } from 'vue-i18n'
import type { Messages } from './locales/en'
import { api } from './stores/http'

export const LANGUAGES = ['en', 'uk', 'ru'] as const
export type Language = (typeof LANGUAGES)[number]
export const LANGUAGE_NAMES: Record<Language, string> = { en: 'English', uk: 'Українська', ru: 'Русский' }

const KEPT = 'switchboard.language'

/** `one | few | many` for Ukrainian and Russian, `one | other` for English. */
function slavic(choice: number, choices: number): number {
  if (choices < 3) return choice === 1 ? 0 : 1
  const ten = choice % 10
  const hundred = choice % 100
  if (ten === 1 && hundred !== 11) return 0
  return ten >= 2 && ten <= 4 && (hundred < 12 || hundred > 14) ? 1 : 2
}

export const i18n = createI18n({
  legacy: false,
  locale: 'en',
  pluralRules: { uk: slavic, ru: slavic },
  missingWarn: false,
  fallbackWarn: false,
  messages: {} as Record<string, Messages>,
}) as unknown as I18n<Record<string, Messages>, Record<string, unknown>, Record<string, unknown>, string, false>

const LOADERS: Record<Language, () => Promise<{ default: Messages }>> = {
  en: () => import('./locales/en'),
  uk: () => import('./locales/uk'),
  ru: () => import('./locales/ru'),
}

export function isLanguage(value: unknown): value is Language {
  return LANGUAGES.includes(value as Language)
}

export async function setLanguage(language: Language): Promise<void> {
  const { default: messages } = await LOADERS[language]()
  i18n.global.setLocaleMessage(language, messages)
  i18n.global.locale.value = language
  document.documentElement.lang = language
  api.language = language
  try {
    localStorage.setItem(KEPT, language)
  } catch {
    // Forbidden storage: the choice lasts until the page is closed.
  }
}

export function keptLanguage(): Language | null {
  try {
    const kept = localStorage.getItem(KEPT)
    return isLanguage(kept) ? kept : null
  } catch {
    return null
  }
}

export async function startLanguage(): Promise<void> {
  const wishes = [keptLanguage(), ...navigator.languages.map((l) => l.slice(0, 2))]
  await setLanguage(wishes.find(isLanguage) ?? 'en')
}
