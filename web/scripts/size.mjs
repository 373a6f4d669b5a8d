/** Fails the build when a front end outgrows its promise (architecture.md §9), counted as gzip bytes of what is loaded first. */

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const out = join(dirname(fileURLToPath(import.meta.url)), '../../api/static')
const kB = (bytes) => `${(bytes / 1000).toFixed(1)} kB gz`
const gz = (file) => gzipSync(readFileSync(file), { level: 9 }).length

/** Everything an index.html names, plus what those scripts import at once, plus named lazy chunks. */
function firstLoad(folder, lazy = []) {
  const page = readFileSync(join(folder, 'index.html'), 'utf8')
  const queue = [...page.matchAll(/(?:src|href)="[^"]*?(assets\/[^"]+)"/g)].map((m) => m[1])
  const names = readdirSync(join(folder, 'assets'))
  for (const start of lazy) queue.push(...names.filter((n) => n.startsWith(start)).map((n) => `assets/${n}`))
  const seen = new Set()
  while (queue.length) {
    const name = queue.pop()
    if (seen.has(name) || !existsSync(join(folder, name))) continue
    seen.add(name)
    if (!name.endsWith('.js')) continue
    const code = readFileSync(join(folder, name), 'utf8')
    for (const m of code.matchAll(/(?:from|import)\s*["']\.\/([^"']+)["']/g)) queue.push(`assets/${m[1]}`)
  }
  return [join(folder, 'index.html'), ...[...seen].map((n) => join(folder, n))]
}

const sum = (files) => files.reduce((total, file) => total + gz(file), 0)
const checks = [
  ['widget loader', sum([join(out, 'widget/widget.js')]), 4_000],
  ['chat app', sum(firstLoad(join(out, 'widget/app'), ['uk-'])), 45_000],
  ['desk, first load to the inbox', sum(firstLoad(join(out, 'desk'), ['InboxView-', 'uk-'])), 400_000],
]
let failed = false
for (const [name, size, limit] of checks) {
  const over = size > limit
  failed ||= over
  console.log(`${over ? 'TOO BIG' : 'ok     '} ${name}: ${kB(size)} of ${kB(limit)}`)
}
process.exit(failed ? 1 : 0)
