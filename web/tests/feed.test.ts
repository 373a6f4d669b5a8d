import { beforeEach, describe, expect, it } from 'vitest'
import type { FeedEvent } from '../shared/api'
import { FeedClient, type FeedState } from '../shared/feed'
import { FakeNet, FakeTimers } from './fakes'

let net: FakeNet
let timers: FakeTimers
let events: FeedEvent[]
let states: FeedState[]
let resets: number
let feed: FeedClient

const event = (cursor: string | number, kind = 'inquiry.updated'): object => ({
  type: 'event', cursor, id: 1, kind, at: '2026-11-22T00:00:00.000Z', subject: { kind: 'inquiry', id: 5 }, inquiry_id: 5, data: {},
})

beforeEach(() => {
  net = new FakeNet()
  timers = new FakeTimers()
  events = []
  states = []
  resets = 0
  feed = new FeedClient({
    url: 'ws://desk/api/v1/feed', after: 'c10', socket: net.make, timers, random: () => 0.5,
    onEvent: (e) => events.push(e), onReset: () => (resets += 1), onState: (s) => states.push(s),
  })
  feed.start()
})

function live(): void {
  net.last.open()
  net.last.say({ type: 'hello', cursor: 'c10', agent_id: 1 })
}

describe('the feed', () => {
  it('asks for everything after the cursor of /me', () => {
    expect(net.last.url).toBe('ws://desk/api/v1/feed?after=c10')
  })

  it('is live only after the hello', () => {
    net.last.open()
    expect(states).toEqual(['connecting'])
    net.last.say({ type: 'hello', cursor: 'c10', agent_id: 1 })
    expect(states.at(-1)).toBe('live')
  })

  it('resumes after the last event it saw, not after the one of the hello', () => {
    live()
    net.last.say(event('c11'))
    net.last.say(event('c12'))
    net.last.drop()
    expect(states.at(-1)).toBe('waiting')
    timers.advance(30_000)
    expect(net.sockets).toHaveLength(2)
    expect(net.last.url).toContain('after=c12')
    net.last.open()
    net.last.say({ type: 'hello', cursor: 'c99', agent_id: 1 })
    net.last.say(event('c13'))
    net.last.drop()
    timers.advance(30_000)
    expect(net.last.url).toContain('after=c13')
    expect(events).toHaveLength(3)
  })

  it('does not move its cursor for events that are not stored', () => {
    live()
    net.last.say({ type: 'event', kind: 'typing', at: '', data: {}, inquiry_id: 5 })
    expect(feed.lastCursor).toBe('c10')
    expect(events).toHaveLength(1)
  })

  it('asks everybody to fetch anew when its cursor is too old, and goes on from the new one', () => {
    live()
    net.last.say({ type: 'reset', cursor: 'c500' })
    expect(resets).toBe(1)
    net.last.drop()
    timers.advance(30_000)
    expect(net.last.url).toContain('after=c500')
  })

  it('answers heartbeats', () => {
    live()
    net.last.say({ type: 'ping' })
    expect(net.last.sent).toEqual([{ type: 'pong' }])
  })

  it('waits longer after each failure, within 1 to 30 s', () => {
    const delays: number[] = []
    for (let i = 0; i < 8; i += 1) {
      net.last.drop()
      delays.push(timers.waiting[0]!)
      timers.advance(30_000)
    }
    expect(delays).toEqual([1500, 2500, 4500, 8500, 15_500, 15_500, 15_500, 15_500])
  })

  it('starts with short delays again after a good connection', () => {
    for (let i = 0; i < 5; i += 1) {
      net.last.drop()
      timers.advance(30_000)
    }
    live()
    net.last.drop()
    expect(timers.waiting[0]).toBe(1500)
  })

  it('goes back at once when the browser is online again', () => {
    net.last.drop()
    feed.nudge()
    expect(net.sockets).toHaveLength(2)
    timers.advance(60_000)
    expect(net.sockets).toHaveLength(2)
  })

  it('is not live any more when the browser loses the network, and comes back once', () => {
    live()
    feed.lost()
    feed.lost()
    expect(states.at(-1)).toBe('waiting')
    expect(net.sockets).toHaveLength(1)
    feed.nudge()
    live()
    expect(states.at(-1)).toBe('live')
    expect(net.sockets).toHaveLength(2)
  })

  it('gives up a silent line and connects again', () => {
    live()
    timers.advance(74_000)
    net.last.say({ type: 'ping' })
    timers.advance(74_000)
    expect(net.sockets).toHaveLength(1)
    const dead = net.last
    timers.advance(1_000)
    expect(dead.closedWith).toBe(4000)
    timers.advance(30_000)
    expect(net.sockets).toHaveLength(2)
    dead.say(event('c77'))
    expect(events).toHaveLength(0)
  })

  it('does not knock again when the session is over', () => {
    live()
    net.last.drop(4401)
    expect(states.at(-1)).toBe('unauthenticated')
    timers.advance(600_000)
    expect(net.sockets).toHaveLength(1)
  })

  it('survives a frame that is not JSON', () => {
    live()
    net.last.raw('<html>')
    net.last.say(event('c11'))
    expect(events).toHaveLength(1)
  })

  it('says typing only while the line is open', () => {
    feed.typing(7)
    live()
    feed.typing(7)
    expect(net.last.sent).toEqual([{ type: 'typing', inquiry_id: 7 }])
  })

  it('stays stopped', () => {
    live()
    feed.stop()
    timers.advance(600_000)
    expect(net.sockets).toHaveLength(1)
    expect(states.at(-1)).toBe('closed')
  })
})
