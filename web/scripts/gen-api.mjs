/**
 * Writes `shared/openapi.gen.ts` from the committed `openapi.json`, when there is one.
 *
 * openapi-typescript asks for TypeScript 5 and is therefore not among our dependencies; it is fetched for this command
 * only. `--default-non-nullable=false` keeps request fields with a default optional.
 */

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const web = join(dirname(fileURLToPath(import.meta.url)), '..')
if (!existsSync(join(web, 'openapi.json'))) {
  console.log('No web/openapi.json: nothing to generate.')
  process.exit(0)
}
// The npm that runs this script, not the one on the PATH: a Node from a Python wheel has a broken one there.
const npm = process.env.npm_execpath
const run = spawnSync(
  npm ? process.execPath : 'npm',
  [...(npm ? [npm] : []), 'exec', '--yes', '--package=openapi-typescript@7.13', '--package=typescript@5.9', '--', 'openapi-typescript', 'openapi.json', '-o', 'shared/openapi.gen.ts', '--default-non-nullable=false'],
  { cwd: web, stdio: 'inherit' },
)
process.exit(run.status ?? 1)
