import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import deskEn from '../desk/locales/en'
import deskRu from '../desk/locales/ru'
import deskUk from '../desk/locales/uk'
import { chooseLocale } from '../widget/app/i18n'
import widgetEn from '../widget/app/locales/en'
import widgetRu from '../widget/app/locales/ru'
import widgetUk from '../widget/app/locales/uk'

type Tree = { [key: string]: string | Tree }

function flat(tree: Tree, path = ''): Map<string, string> {
  const out = new Map<string, string>()
  for (const [key, value] of Object.entries(tree)) {
    if (typeof value === 'string') out.set(path + key, value)
    else for (const [k, v] of flat(value, `${path}${key}.`)) out.set(k, v)
  }
  return out
}

const holes = (text: string): string[] => [...new Set([...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]!))].sort()

describe.each([
  ['desk', 'uk', deskEn as Tree, deskUk as unknown as Tree],
  ['desk', 'ru', deskEn as Tree, deskRu as unknown as Tree],
  ['widget', 'uk', widgetEn as Tree, widgetUk as Tree],
  ['widget', 'ru', widgetEn as Tree, widgetRu as Tree],
])('%s in %s', (_which, _language, english, other) => {
  const en = flat(english)
  const it_ = flat(other)

  it('has exactly the keys of English', () => expect([...it_.keys()].sort()).toEqual([...en.keys()].sort()))

  it('fills the same holes', () => {
    for (const [key, text] of en) expect([key, holes(it_.get(key) ?? '')]).toEqual([key, holes(text)])
  })

  it('leaves nothing empty and nothing in English', () => {
    const same = new Set(['app.name', 'channel.telegram', 'panel.vip'])
    for (const [key, text] of it_) {
      expect([key, text.trim()]).not.toEqual([key, ''])
      if (!same.has(key)) expect([key, text]).not.toEqual([key, en.get(key)])
    }
  })

  it('has three plural forms where English has two', () => {
    for (const [key, text] of en) {
      if (text.includes(' | ')) expect([key, (it_.get(key) ?? '').split(' | ').length]).toEqual([key, 3])
    }
  })
})

describe('the desk', () => {
  it('uses no key that does not exist', () => {
    const root = fileURLToPath(new URL('../desk', import.meta.url))
    const known = flat(deskEn as Tree)
    const missing: string[] = []
    for (const name of readdirSync(root, { recursive: true }) as string[]) {
      if (!/\.(vue|ts)$/.test(name) || name.includes('locales')) continue
      const source = readFileSync(`${root}/${name}`, 'utf8')
      for (const m of source.matchAll(/\bt\(\s*'([\w.]+)'/g)) if (!known.has(m[1]!)) missing.push(`${name}: ${m[1]}`)
    }
    expect(missing).toEqual([])
  })
})

describe('the widget', () => {
  it('speaks the first wish it can', () => {
    expect(chooseLocale(['de-DE', 'uk-UA', 'en'])).toBe('uk')
    expect(chooseLocale([null, undefined, 'fr'])).toBe('en')
  })
})
