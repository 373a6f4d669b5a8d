import { describe, expect, it } from 'vitest'
import { countdown, deadline, nearestClock, shortSpan } from '../shared/countdown'

const S = 1000
const M = 60 * S
const H = 60 * M
const D = 24 * H

describe('countdown', () => {
  it.each([
    [0, '0:00'], [999, '0:00'], [5 * S, '0:05'], [65 * S, '1:05'], [59 * M + 59 * S, '59:59'], [H, '1 h 00 m'],
    [2 * H + 7 * M + 30 * S, '2 h 07 m'], [47 * H + 59 * M, '47 h 59 m'], [48 * H, '2 d 0 h'], [5 * D + 3 * H, '5 d 3 h'], [-5 * S, '0:00'],
  ])('%i ms is %s', (ms, text) => expect(countdown(ms)).toBe(text))

  it('speaks the units it is given', () => expect(countdown(2 * H, { d: 'дн', h: 'год', m: 'хв', s: 'с' })).toBe('2 год 00 хв'))
})

describe('a span at a glance', () => {
  it.each([[0, '0 s'], [59_999, '59 s'], [M, '1 m'], [5 * M + 59 * S, '5 m'], [H, '1 h'], [47 * H, '47 h'], [2 * D, '2 d']])(
    '%i ms is %s', (ms, text) => expect(shortSpan(ms)).toBe(text))
})

describe('urgency', () => {
  it('warns in the last quarter of an ordinary target', () => {
    expect(deadline(16 * M, 0, H)).toMatchObject({ urgency: 'calm' })
    expect(deadline(15 * M, 0, H)).toMatchObject({ urgency: 'soon' })
  })

  it('warns at least two minutes and at most an hour ahead', () => {
    expect(deadline(119 * S, 0, 3 * M).urgency).toBe('soon')
    expect(deadline(61 * M, 0, 8 * H).urgency).toBe('calm')
    expect(deadline(60 * M, 0, 8 * H).urgency).toBe('soon')
  })

  it('is late only after the deadline: the deadline itself is still kept', () => {
    expect(deadline(1000, 1000).urgency).toBe('soon')
    expect(deadline(1000, 1001)).toEqual({ urgency: 'late', leftMs: -1 })
  })
})

describe('the clock to show', () => {
  const clock = (due_at: string | null, state = 'active', fulfilled_at: string | null = null) => ({ due_at, state, fulfilled_at })

  it('is the running one with the nearest deadline', () => {
    const near = clock('2026-11-22T10:00:00.000Z')
    expect(nearestClock([
      clock('2026-11-22T12:00:00.000Z'), clock('2026-11-22T09:00:00.000Z', 'paused'), near,
      clock('2026-11-22T08:00:00.000Z', 'fulfilled', '2026-11-22T07:00:00.000Z'), clock(null),
    ])).toBe(near)
  })

  it('is none when nothing is promised', () => {
    expect(nearestClock([])).toBeNull()
    expect(nearestClock(null)).toBeNull()
  })
})
