/** The server's present instant, ticking once a second for every countdown on the screen. */

import { defineStore } from 'pinia'
import { ref } from 'vue'
import { api } from './http'

export const useClock = defineStore('clock', () => {
  const now = ref(Date.now())
  let offsetMs = 0

  // The Date header has whole seconds and travel time in it: correct only a clock that is plainly wrong.
  api.onServerTime = (serverMs) => {
    const off = serverMs - Date.now()
    offsetMs = Math.abs(off) > 2500 ? off : 0
  }
  setInterval(() => {
    now.value = Date.now() + offsetMs
  }, 1000)

  return { now }
})
