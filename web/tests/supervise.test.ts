import { describe, expect, it } from 'vitest'
import { measured } from '../shared/countdown'
import type { RiskItem } from '../shared/supervise'
import { changeOf, partsOf, reasonOf, verdict } from '../desk/lib/planning'
import { spanOf } from '../desk/lib/periods'
import { columnsOf, definitionOf, fromUrl, groupsOf, isEmpty, request, spanMs, toUrl, unitOf, whyNothing, type Question } from '../desk/lib/reports'
import { DEFINITIONS, definitionsIn } from '../desk/locales/definitions'

const KYIV = 'Europe/Kyiv'
const at = (iso: string): number => Date.parse(iso)
const shown = (period: Parameters<typeof spanOf>[0], now: string, from: string | null = null, to: string | null = null, ahead = false): string[] | null => {
  const span = spanOf(period, from, to, KYIV, at(now), ahead)
  return span && [new Date(span.begin).toISOString(), new Date(span.end).toISOString()]
}

describe('a period', () => {
  const now = '2026-11-22T10:15:00.000Z'

  it('is whole days of the zone, and ends now', () => {
    expect(shown('today', now)).toEqual(['2026-11-21T22:00:00.000Z', now])
    expect(shown('yesterday', now)).toEqual(['2026-11-20T22:00:00.000Z', '2026-11-21T22:00:00.000Z'])
    expect(shown('7d', now)).toEqual(['2026-11-15T22:00:00.000Z', now])
    expect(shown('30d', now)).toEqual(['2026-10-23T21:00:00.000Z', now]) // before the clock was put back
  })

  it('is another day where the zone has one already', () => {
    expect(shown('today', '2026-11-21T22:30:00.000Z')![0]).toBe('2026-11-21T22:00:00.000Z')
  })

  it('of one own day holds the 25 hours of a clock change', () => {
    expect(shown('custom', now, '2026-10-25', '2026-10-25')).toEqual(['2026-10-24T21:00:00.000Z', '2026-10-25T22:00:00.000Z'])
  })

  it('counts what is promised to the end of its last day', () => {
    expect(shown('today', now, null, null, true)).toEqual(['2026-11-21T22:00:00.000Z', '2026-11-22T22:00:00.000Z'])
    expect(shown('yesterday', now, null, null, true)![1]).toBe('2026-11-21T22:00:00.000Z')
  })

  it.each([
    ['turned round', '2026-11-20', '2026-11-18'], ['in the future', '2027-01-01', '2027-01-02'], ['half', '2026-11-20', null], ['no day', '2026-02-30', '2026-03-02'], ['nonsense', 'x', '2026-11-20'],
  ])('that is %s is none', (_what, from, to) => expect(shown('custom', now, from, to)).toBeNull())
})

const question: Question = { kind: 'sla', period: 'custom', from: '2026-11-01', to: '2026-11-07', team: 2, agent: 7, bucket: 'day', by: ['team', 'metric'], zone: 'Europe/Warsaw', all: true }

describe('a report', () => {
  it('is the same after a visit to the address', () => {
    expect(fromUrl('sla', toUrl(question))).toEqual(question)
    expect(fromUrl('sla', toUrl({ ...question, by: [] })).by).toEqual([])
    const usual = fromUrl(undefined, {})
    expect(usual).toMatchObject({ kind: 'sla', period: 'today', by: ['team'], team: null })
    expect(toUrl(usual)).toEqual({})
  })

  it('has its defaults for whatever an address has of nonsense', () => {
    expect(fromUrl('gossip', { period: 'ever', team: '-1', agent: '1e3', bucket: '5m', by: ['team', 'agent'] })).toEqual(fromUrl('sla', {}))
  })

  it('asks each report only what it takes', () => {
    const span = { begin: at('2026-11-01T00:00:00Z'), end: at('2026-11-08T00:00:00Z') }
    expect(request(question, span)).toEqual({
      path: '/reports/sla',
      query: { begin: '2026-11-01T00:00:00.000Z', end: '2026-11-08T00:00:00.000Z', bucket: 'day', zone: 'Europe/Warsaw', by: ['team', 'metric'], team_id: 2, agent_id: 7 },
    })
    expect(request({ ...question, kind: 'backlog' }, span).query).toEqual({ zone: null, by: ['team'], team_id: 2, agent_id: 7 })
    expect(request({ ...question, kind: 'callbacks', by: ['metric', 'owner', 'team'] }, span).query).toMatchObject({ group: 'owner', from: '2026-11-01T00:00:00.000Z' })
    expect(request({ ...question, kind: 'fairness' }, span).query).toEqual({ from: '2026-11-01T00:00:00.000Z', to: '2026-11-08T00:00:00.000Z', team_id: 2 })
    expect(groupsOf({ ...question, kind: 'handling', by: ['priority', 'channel'] })).toEqual(['channel'])
  })

  it('knows what its columns are', () => {
    expect(['met_pct', 'asa_s', 'lateness_max_ms', 'offered', 'per_hour', 'absent'].map(unitOf)).toEqual(['percent', 'span', 'span', 'count', 'number', 'flag'])
    expect([spanMs('asa_s', 1.5), spanMs('lateness_max_ms', 1500)]).toEqual([1500, 1500])
    expect(columnsOf('service', ['offered', 'abandoned_short'], false).map((c) => c.key)).toEqual(['offered'])
    expect(columnsOf('service', ['offered', 'abandoned_short'], true)).toHaveLength(2)
    expect(columnsOf('backlog', ['open', 'something_new'], false)).toHaveLength(2)
  })

  it('finds the definition of a column', () => {
    const names = ['unit', 'met_pct', 'elapsed_s, overrun_s', 'breached_open', 'answered, abandoned', 'service_level_pct']
    expect(['met_pct', 'met', 'elapsed_p90_s', 'overrun_median_s', 'abandoned', 'abandoned_pct', 'breached_open', 'unheard_of'].map((c) => definitionOf(names, c))).toEqual([
      'met_pct', 'met_pct', 'elapsed_s, overrun_s', 'elapsed_s, overrun_s', 'answered, abandoned', 'unit', 'breached_open', 'unit',
    ])
    expect(definitionOf(['cohort', 'lateness'], 'lateness_mean_ms')).toBe('lateness')
    expect(definitionOf(['age_s'], 'age_p50_s')).toBe('age_s')
    expect(definitionOf([], 'met')).toBeNull()
  })

  it('says why there is no number', () => {
    expect(whyNothing('sla', 'breached_open', ['team'], false)).toBe('totalOnly')
    expect(whyNothing('handling', 'occupancy_pct', ['channel'], false)).toBe('byChannel')
    expect(whyNothing('handling', 'utilisation_pct', [], true)).toBe('noShifts')
    expect(whyNothing('service', 'asa_s', [], true)).toBe('nothing')
  })

  it('is empty without a number above zero', () => {
    expect(isEmpty({ group: 'total', booked: 0, kept_on_time_pct: null })).toBe(true)
    expect(isEmpty({ breached_open: 1, met: 0 })).toBe(false)
  })

  it('speaks the API’s words where ours are missing', () => {
    expect(definitionsIn('uk', 'sla', { met_pct: 'met / all', brand_new: 'said by the server' })).toEqual({ met_pct: DEFINITIONS.uk['sla']!['met_pct'], brand_new: 'said by the server' })
    expect(definitionsIn('en', 'sla', { met_pct: 'met / all' })).toEqual({ met_pct: 'met / all' })
    expect(Object.keys(definitionsIn('ru', 'fairness', {}))).toEqual(Object.keys(DEFINITIONS.en['fairness']!))
  })

  it('is defined in both languages alike', () => {
    for (const kind of Object.keys(DEFINITIONS.uk)) expect(Object.keys(DEFINITIONS.ru[kind]!)).toEqual(Object.keys(DEFINITIONS.uk[kind]!))
  })
})

it.each([
  [0, '0 s'], [9_228, '9.2 s'], [59_970, '1 m'], [245_000, '4 m 05 s'], [3_599_700, '1 h'], [7_620_000, '2 h 07 m'], [172_799_000, '2 d'], [442_800_000, '5 d 3 h'],
])('%d ms are %s', (ms, text) => expect(measured(ms)).toBe(text))

describe('planning', () => {
  it('calls a difference better or worse only beyond chance', () => {
    expect(verdict('wait_p90_s', -36.1, 5.1)).toBe('better')
    expect(verdict('abandoned', 3, 1)).toBe('worse')
    expect(verdict('service_level_pct', 2, 4)).toBe('chance')
    expect(verdict('answered', 5, null)).toBe('chance')
    expect(verdict('answered', 0, 0)).toBe('same')
    expect(verdict('offered', 9, 1)).toBeNull()
    expect(verdict('answered', null, null)).toBeNull()
  })

  const item: RiskItem = { item_id: 1, inquiry: null, team_id: 1, channel: 'chat', state: 'waiting', assignee: null, due_at: '2026-11-22T12:00:00.000Z', late: false, probability: 1, expected_at: '2026-11-22T12:30:00.000Z' }
  const agent = { id: 3, name: 'Maria' }
  it.each<[string, Partial<RiskItem>]>([
    ['waits', {}], ['mayBe', { expected_at: '2026-11-22T11:30:00.000Z', probability: 0.3 }], ['nobody', { expected_at: null }], ['late', { late: true }], ['lateNobody', { late: true, expected_at: null }],
    ['inHand', { assignee: agent }], ['away', { assignee: agent, expected_at: null }],
  ])('says why: %s', (reason, part) => expect(reasonOf({ ...item, ...part })).toBe(reason))

  it('writes a change as the API takes it, and reads it back for people', () => {
    const change = changeOf({
      add: [{ team: 'Support', count: 2, works: 'always', like: null }, { team: 'Sales', count: 1, works: 'always', like: 'Maria' }, { team: '', count: 1, works: 'team_hours', like: null }],
      remove: ['Pavlo'], limits: [{ team: 'Support', channel: 'chat', max: 5 }],
    })
    expect(change).toEqual({
      teams: { Support: { channels: { chat: { max: 5, weight: 20 } } } },
      agents: { add: [{ teams: ['Support'], count: 2, works: 'always' }, { teams: ['Sales'], count: 1, like: 'Maria' }], remove: ['Pavlo'] },
    })
    expect(partsOf(change)).toEqual([
      ['added', { n: 2, team: 'Support' }], ['added', { n: 1, team: 'Sales' }], ['removed', { names: 'Pavlo' }], ['limit', { team: 'Support', channel: 'chat', n: 5 }],
    ])
    expect(partsOf({ teams: { Support: { overflow: [2], channels: { voice: null } } }, agents: { change: { Sofia: {} } } })).toEqual([
      ['changed', { names: 'Sofia' }], ['settings', { team: 'Support', names: 'overflow, voice' }],
    ])
    expect(changeOf({ add: [], remove: [], limits: [{ team: 'Sales', channel: 'async', max: 40 }] }, () => 200)).toEqual({ teams: { Sales: { channels: { async: { max: 40, weight: 5 } } } } })
    expect(changeOf({ add: [], remove: [], limits: [] })).toEqual({})
  })
})
