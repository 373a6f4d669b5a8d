/** Starts the desk: language first, because the login page speaks it too. */

import { createPinia } from 'pinia'
import { createApp } from 'vue'
import App from './App.vue'
import { i18n, startLanguage } from './i18n'
import { router } from './router'
import { useNotices } from './stores/notices'
import './styles/base.css'

async function start(): Promise<void> {
  await startLanguage()
  const app = createApp(App)
  app.use(createPinia())
  app.use(i18n)
  app.use(router)
  app.config.errorHandler = (error) => useNotices().fail(error)
  app.mount('#app')
}

void start()
