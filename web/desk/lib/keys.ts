/** One-letter keyboard shortcuts that stay out of the way while somebody writes. */

import { onBeforeUnmount, onMounted } from 'vue'

export type KeyMap = Record<string, (event: KeyboardEvent) => void>

export function writing(target: EventTarget | null): boolean {
  const el = target as HTMLElement | null
  return Boolean(el?.closest?.('input, textarea, select, [contenteditable="true"], [role="dialog"], [role="menu"]'))
}

/** Keys are matched by `event.code` (`KeyJ`) so that they work under a Ukrainian or Russian layout too. */
export function useKeys(map: KeyMap): void {
  const listener = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || writing(event.target)) return
    const action = map[event.shiftKey ? `Shift+${event.code}` : event.code]
    if (!action) return
    event.preventDefault()
    action(event)
  }
  onMounted(() => document.addEventListener('keydown', listener))
  onBeforeUnmount(() => document.removeEventListener('keydown', listener))
}
