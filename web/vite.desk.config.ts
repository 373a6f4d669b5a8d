import vue from '@vitejs/plugin-vue'
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vite'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const backend = process.env['SWITCHBOARD_BACKEND'] ?? 'http://127.0.0.1:8080'

export default defineConfig({
  root: here('./desk'),
  base: '/desk/',
  plugins: [vue()],
  define: {
    __VUE_OPTIONS_API__: 'false',
    __VUE_PROD_DEVTOOLS__: 'false',
    __VUE_I18N_LEGACY_API__: 'false',
    __VUE_I18N_FULL_INSTALL__: 'false',
    __INTLIFY_PROD_DEVTOOLS__: 'false',
  },
  build: {
    outDir: here('../api/static/desk'),
    emptyOutDir: true,
    target: 'es2022',
    // Small assets stay files: a data: URL would need a wider Content-Security-Policy.
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 900,
  },
  server: {
    host: '127.0.0.1',
    proxy: { '/api': { target: backend, ws: true }, '/chat': { target: backend, ws: true } },
  },
})
