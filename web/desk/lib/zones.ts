/**
 * Wall-clock time of a named zone ↔ instants, with the browser's own zone data.
 *
 * Naive UI's picker works in the browser's zone; a callback's window is in the customer's. So the picker holds
 * "the numbers on the wall", and these two functions carry them over. Same rules as the server's calendars: a time
 * that happens twice means the first, a time that never happens moves on by the gap.
 */

const PARTS: Intl.DateTimeFormatOptions = {
  year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
}

export interface Wall {
  year: number
  month: number
  day: number
  hour: number
  minute: number
}

/** The zone's offset from UTC at an instant, milliseconds, east positive. Throws RangeError for an unknown zone. */
export function offsetMs(zone: string, instantMs: number): number {
  const parts = new Intl.DateTimeFormat('en-US', { ...PARTS, timeZone: zone }).formatToParts(instantMs)
  const n = (type: string): number => Number(parts.find((p) => p.type === type)!.value)
  const wall = Date.UTC(n('year'), n('month') - 1, n('day'), n('hour'), n('minute'), n('second'))
  return wall - Math.floor(instantMs / 1000) * 1000
}

export function toInstant(wall: Wall, zone: string): number {
  const asUtc = Date.UTC(wall.year, wall.month - 1, wall.day, wall.hour, wall.minute)
  // The two offsets around the moment differ only near a clock change.
  const before = offsetMs(zone, asUtc - 86_400_000)
  const after = offsetMs(zone, asUtc + 86_400_000)
  const first = asUtc - Math.max(before, after)
  const second = asUtc - Math.min(before, after)
  if (first + offsetMs(zone, first) === asUtc) return first
  if (second + offsetMs(zone, second) === asUtc) return second
  return asUtc - before // In the gap: counted with the offset before it, which lands behind the gap.
}

export function toWall(instantMs: number, zone: string): Wall {
  const d = new Date(instantMs + offsetMs(zone, instantMs))
  return { year: d.getUTCFullYear(), month: d.getUTCMonth() + 1, day: d.getUTCDate(), hour: d.getUTCHours(), minute: d.getUTCMinutes() }
}

/** A picker's value (epoch ms in the browser's zone) showing these numbers, and back. */
export function wallToPicker(wall: Wall): number {
  return new Date(wall.year, wall.month - 1, wall.day, wall.hour, wall.minute).getTime()
}

export function pickerToWall(value: number): Wall {
  const d = new Date(value)
  return { year: d.getFullYear(), month: d.getMonth() + 1, day: d.getDate(), hour: d.getHours(), minute: d.getMinutes() }
}

export function zoneKnown(zone: string | null | undefined): zone is string {
  if (!zone) return false
  try {
    new Intl.DateTimeFormat('en-US', { timeZone: zone })
    return true
  } catch {
    return false
  }
}

export const OWN_ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone

export function allZones(): string[] {
  const supported = (Intl as unknown as { supportedValuesOf?: (key: string) => string[] }).supportedValuesOf?.('timeZone') ?? []
  return [...new Set(['Europe/Kyiv', 'UTC', OWN_ZONE, ...supported])].filter(zoneKnown)
}
