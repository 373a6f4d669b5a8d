import { describe, expect, it } from 'vitest'
import type { Inquiry } from '../shared/api'
import { linkify } from '../shared/linkify'
import { ApiError, Http, withQuery } from '../shared/http'
import { isOwnImage, leavesImagesOut } from '../desk/lib/mailimages'
import { ACTIVE, belongs, ordered, settledRead, toQuery, type ListFilter } from '../desk/lib/views'
import { offsetMs, pickerToWall, toInstant, toWall, wallToPicker, zoneKnown } from '../desk/lib/zones'
import { safeOrigin, subjectOf } from '../widget/app/host'

const filter: ListFilter = { scope: 'mine', kind: null, statuses: [...ACTIVE], channel: null, teamId: null, q: '', sort: '-updated_at' }

function anInquiry(extra: Partial<Inquiry> = {}): Inquiry {
  return {
    id: 1, number: 1001, kind: 'ticket', status: 'open', stage: null, subject: 's', channel: 'email', priority: 'normal', inbox_id: 1, conversation_id: 1,
    contact: null, team: { id: 2, name: 'T' }, assignee: { id: 7, name: 'A' }, tags: [], language: null, source: null, value_minor: null, currency: null,
    outcome: null, fields: null, held_by_bot: false, created_at: '2026-11-22T00:00:00.000Z', updated_at: '2026-11-22T00:00:00.000Z', solved_at: null,
    last_message: null, unread: false, sla: [], ...extra,
  }
}

describe('a view', () => {
  it('asks the server what it means', () => {
    expect(toQuery(filter)).toMatchObject({ assignee_id: 'me', status: ['new', 'open', 'pending', 'hold'], q: null })
    expect(toQuery({ ...filter, scope: 'queue' })).toMatchObject({ assignee_id: 'none' })
    expect(toQuery({ ...filter, scope: 'all' })).toMatchObject({ assignee_id: null })
  })

  it.each<[string, Partial<Inquiry>, Partial<ListFilter>, boolean | null]>([
    ['my own', {}, {}, true],
    ['given to somebody else', { assignee: { id: 8, name: 'B' } }, {}, false],
    ['unassigned, in the queue', { assignee: null }, { scope: 'queue' }, true],
    ['taken, no longer in the queue', {}, { scope: 'queue' }, false],
    ['solved, in the active list', { status: 'solved' }, {}, false],
    ['of another kind', { kind: 'lead' }, { kind: 'ticket' }, false],
    ['of another channel', {}, { channel: 'telegram' }, false],
    ['of another team', {}, { teamId: 3 }, false],
    ['anything under a search', {}, { q: 'x' }, null],
  ])('decides: %s', (_name, inquiry, change, verdict) => expect(belongs(anInquiry(inquiry), { ...filter, ...change }, 7)).toBe(verdict))

  it('orders by deadline, those without one last and newest first', () => {
    const due = (id: number, at: string | null, updated = '2026-11-22T00:00:00.000Z'): Inquiry => anInquiry({
      id, updated_at: updated,
      sla: at === null ? [] : [{ metric: 'first_reply', instance: 1, state: 'active', due_at: at, breach_at: at, breached_at: null, target_ms: 1, elapsed_ms: 0, fulfilled_at: null }],
    })
    const list = [due(1, null), due(2, '2026-11-22T09:00:00.000Z'), due(3, null, '2026-11-22T05:00:00.000Z'), due(4, '2026-11-22T08:00:00.000Z')]
    expect(ordered(list, 'due_at').map((i) => i.id)).toEqual([4, 2, 3, 1])
    expect(ordered(list, '-updated_at')[0]!.id).toBe(3)
  })
})

describe('time zones', () => {
  const kyiv = (y: number, mo: number, d: number, h: number, mi = 0): string => new Date(toInstant({ year: y, month: mo, day: d, hour: h, minute: mi }, 'Europe/Kyiv')).toISOString()

  it('turns wall time into an instant, winter and summer', () => {
    expect(kyiv(2026, 11, 22, 18)).toBe('2026-11-22T16:00:00.000Z')
    expect(kyiv(2026, 7, 1, 18)).toBe('2026-07-01T15:00:00.000Z')
  })

  it('takes the first of two equal times and moves a missing one on by the gap', () => {
    expect(kyiv(2026, 10, 25, 3, 30)).toBe('2026-10-25T00:30:00.000Z')
    expect(kyiv(2026, 3, 29, 3, 30)).toBe('2026-03-29T01:30:00.000Z')
  })

  it('comes back to the same wall time in zones far apart', () => {
    for (const zone of ['Europe/Kyiv', 'America/New_York', 'Pacific/Auckland', 'Asia/Kathmandu', 'UTC']) {
      for (const hour of [0, 7, 12, 23]) {
        const wall = { year: 2026, month: 11, day: 2, hour, minute: 15 }
        expect(toWall(toInstant(wall, zone), zone)).toEqual(wall)
        expect(pickerToWall(wallToPicker(wall))).toEqual(wall)
      }
    }
  })

  it('knows its zones', () => {
    expect(offsetMs('Asia/Kathmandu', 0)).toBe(5.5 * 3_600_000)
    expect([zoneKnown('Europe/Kyiv'), zoneKnown('Mars/Base'), zoneKnown(null)]).toEqual([true, false, false])
  })
})

describe('links in plain text', () => {
  it('finds web addresses and leaves the full stop outside', () => {
    expect(linkify('see https://a.example/x?y=1. (http://b.example)')).toEqual([
      { text: 'see ' }, { text: 'https://a.example/x?y=1', href: 'https://a.example/x?y=1' }, { text: '. (' },
      { text: 'http://b.example', href: 'http://b.example' }, { text: ')' },
    ])
  })

  it('never makes a link of anything else', () => {
    for (const bad of ['javascript:alert(1)', 'data:text/html,x', '<a href="x">', 'ftp://x']) expect(linkify(bad).every((p) => !p.href)).toBe(true)
  })
})

describe('the widget’s host', () => {
  it('speaks only to a real web origin', () => {
    expect(safeOrigin('https://shop.example/path')).toBe('https://shop.example')
    for (const bad of [null, '', '*', 'null', 'javascript:alert(1)', 'file:///x']) expect(safeOrigin(bad)).toBe('')
  })

  it('reads the subject of an identity, and nothing from rubbish', () => {
    expect(subjectOf(`h.${Buffer.from('{"sub":"u-7"}').toString('base64url')}.s`)).toBe('u-7')
    for (const bad of [null, '', 'x', 'a.b.c', 'a..c']) expect(subjectOf(bad)).toBeNull()
  })
})

describe('the HTTP client', () => {
  const answering = (status: number, body: string, type: string) => {
    const calls: RequestInit[] = []
    const http = new Http('/api/v1', (async (_url: string, init: RequestInit) => {
      calls.push(init)
      return new Response(status === 204 ? null : body, { status, headers: { 'Content-Type': type } })
    }) as typeof fetch)
    return { http, calls }
  }

  it('marks unsafe requests as ours and repeats a given idempotency key', async () => {
    const { http, calls } = answering(204, '', '')
    await http.post('/x', { a: 1 }, { idempotencyKey: 'k1' })
    expect(calls[0]!.headers).toMatchObject({ 'X-Requested-With': 'switchboard', 'Idempotency-Key': 'k1' })
    await http.get('/x')
    expect(calls[1]!.headers).not.toHaveProperty('X-Requested-With')
  })

  it('turns a problem into its sentence with the fields', async () => {
    const { http } = answering(422, JSON.stringify({ status: 422, detail: 'Not valid.', code: 'invalid', errors: [{ loc: ['body', 'phone'], msg: 'too short' }] }), 'application/problem+json')
    const error = await http.get('/x').catch((e: unknown) => e as ApiError)
    expect(error).toMatchObject({ status: 422, code: 'invalid', message: 'Not valid.', fieldErrors: ['phone: too short'] })
  })

  it('has a sentence even for a proxy’s page and for no answer at all', async () => {
    const { http } = answering(502, '<html>bad gateway</html>', 'text/html')
    expect(((await http.get('/x').catch((e: unknown) => e)) as ApiError).message).toBe('The server answered 502.')
    const dead = new Http('/api/v1', (() => Promise.reject(new TypeError('x'))) as typeof fetch)
    expect(await dead.get('/x').catch((e: unknown) => e)).toMatchObject({ status: 0, code: 'unreachable' })
  })

  it('reports a lost session, but not a wrong password', async () => {
    let lost = 0
    const out = answering(401, '{"code":"unauthenticated","detail":"x"}', 'application/json').http
    out.onUnauthorized = () => (lost += 1)
    await out.get('/x').catch(() => undefined)
    const wrong = answering(401, '{"code":"bad_credentials","detail":"x"}', 'application/json').http
    wrong.onUnauthorized = () => (lost += 1)
    await wrong.post('/auth/login').catch(() => undefined)
    expect(lost).toBe(1)
  })

  it('leaves empty parameters out and joins lists', () => {
    expect(withQuery('/a', { q: '', n: null, s: ['new', 'open'], e: [], id: 0 })).toBe('/a?s=new%2Copen&id=0')
  })
})

describe('what has been read', () => {
  const last = (at: string) => ({ text: 'x', at, author_kind: 'customer' as const, direction: 'in' as const })
  const [t1, t2] = ['2026-11-22T00:00:01.000Z', '2026-11-22T00:00:02.000Z']

  it('stays read when an older answer arrives late, and is unread again with newer words', () => {
    const late = anInquiry({ unread: true, last_message: last(t1) })
    expect(settledRead(late, t1).unread).toBe(false)
    expect(settledRead(anInquiry({ unread: true, last_message: last(t2) }), t1).unread).toBe(true)
    expect(settledRead(late, undefined)).toBe(late)
    const read = anInquiry({ last_message: last(t1) })
    expect(settledRead(read, t2)).toBe(read)
  })
})

describe('pictures of a mail', () => {
  it.each([
    ['data:image/png;base64,AA', true], ['/api/v1/attachments/5', true], ['https://spy.example/1.gif', false], ['//spy.example/1.gif', false],
    ['/\\spy.example/1.gif', false], ['HTTP://spy.example', false], ['data:text/html,x', false], ['cid:logo', false], ['', false],
  ])('shows %s: %s', (source, shown) => expect(isOwnImage(source)).toBe(shown))

  it.each([
    ['<p>Hello</p>', false], ['<img src="data:image/png;base64,AA">', false], ['<img alt="x" src="https://a.example/p.png">', true],
    ["<IMG SRC='//a.example/p.png'>", true], ['<img src=http://a.example/p.png width=1>', true], ['<a href="https://a.example">x</a>', false],
    ['<img src="cid:logo"><img class="a" src="https://a.example/p">', true], ['<img alt="stripped by the server">', true], ['<img alt=" src=x > " src="cid:a">', false],
  ])('tells whether any is left out of %s: %s', (html, left) => expect(leavesImagesOut(html)).toBe(left))
})
