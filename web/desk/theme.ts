/** Light or dark: the person's choice, else the system's. Gives Naive UI the same colours as our own CSS. */

import { darkTheme, type GlobalThemeOverrides } from 'naive-ui'
import { computed, ref, watchEffect } from 'vue'

const KEPT = 'switchboard.theme'
const system = matchMedia('(prefers-color-scheme: dark)')
const choice = ref<'light' | 'dark' | null>(kept())
const systemDark = ref(system.matches)
system.addEventListener('change', (event) => (systemDark.value = event.matches))

function kept(): 'light' | 'dark' | null {
  try {
    const value = localStorage.getItem(KEPT)
    return value === 'light' || value === 'dark' ? value : null
  } catch {
    return null
  }
}

export const isDark = computed(() => (choice.value ? choice.value === 'dark' : systemDark.value))
watchEffect(() => {
  document.documentElement.dataset['theme'] = isDark.value ? 'dark' : 'light'
})

export function toggleTheme(): void {
  choice.value = isDark.value ? 'light' : 'dark'
  try {
    localStorage.setItem(KEPT, choice.value)
  } catch {
    // Forbidden storage: the choice lasts until the page is closed.
  }
}

export const naiveTheme = computed(() => (isDark.value ? darkTheme : null))

const shared = { fontSize: '14px', borderRadius: '7px', fontFamily: 'inherit' }
const light: GlobalThemeOverrides = {
  common: {
    ...shared, primaryColor: '#2456c9', primaryColorHover: '#3a6bdc', primaryColorPressed: '#1c47a8', primaryColorSuppl: '#3a6bdc',
    textColor1: '#1a2230', textColor2: '#1a2230', textColor3: '#5b6678', borderColor: '#d5dbe5', placeholderColor: '#667185',
  },
}
const dark: GlobalThemeOverrides = {
  common: {
    ...shared, primaryColor: '#7ba2f7', primaryColorHover: '#97b6fa', primaryColorPressed: '#6690ee', primaryColorSuppl: '#97b6fa',
    bodyColor: '#10141b', cardColor: '#1d2430', modalColor: '#1d2430', popoverColor: '#1d2430', inputColor: '#141922',
    borderColor: '#364152', placeholderColor: '#8d99ac',
  },
}
export const naiveOverrides = computed(() => (isDark.value ? dark : light))
