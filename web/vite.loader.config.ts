import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

/** The script on the customer's page: one classic file, `api/static/widget/widget.js`, served at `/widget.js`. */
export default defineConfig({
  root: here('./widget/loader'),
  build: {
    outDir: here('../api/static/widget'),
    emptyOutDir: false, // The chat app lives in a folder below.
    target: 'es2018',
    lib: { entry: 'loader.ts', formats: ['iife'], name: 'SwitchboardLoader', fileName: () => 'widget.js' },
  },
})
