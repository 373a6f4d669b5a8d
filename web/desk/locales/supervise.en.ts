/** Words of the supervisors' screens: reports and planning. */

export const reports = {
  title: 'Reports', csv: 'Download CSV', loading: 'Counting…', empty: 'Nothing happened in this period.', emptyNow: 'Nothing is open.', emptyHint: 'Take a longer period, or fewer filters.', gone: 'This team or person does not exist.', badPeriod: 'Choose both days of the period; it must not begin in the future.',
  kind: { sla: 'Promises', service: 'Service', handling: 'Handling', resolution: 'Resolution', backlog: 'Backlog', callbacks: 'Callbacks', fairness: 'Fairness' },
  about: {
    sla: 'Promises kept and broken, by who was responsible then.', service: 'How fast a person came to calls and chats; in time means within {t}.', handling: 'How long work takes, and how people’s time was filled.',
    resolution: 'What was solved, opened again, and solved at first contact.', backlog: 'How old what is open now is.', callbacks: 'How promises to call back were kept.', fairness: 'How evenly work is shared out, per hour of each person.',
  },
  period: 'Period', periods: { today: 'Today', yesterday: 'Yesterday', '7d': 'Last 7 days', '30d': 'Last 30 days', custom: 'Own period' },
  agent: 'Agent', anyAgent: 'All agents', bucket: 'Time step', buckets: { none: 'Whole period', '15m': '15 minutes', '30m': '30 minutes', '60m': 'An hour', day: 'A day' },
  by: 'Rows by', byNothing: 'Total only', dimension: { team: 'Team', agent: 'Agent', channel: 'Channel', metric: 'Promise', priority: 'Priority', owner: 'Who calls', source: 'Where from', kind: 'Kind', day: 'Day', start: 'From', shift: 'Shift' },
  zone: 'Time zone', ownZone: '{zone} (organisation)', allColumns: 'All numbers', total: 'Total', asOfNow: 'as of now', cut: 'The first {n} of {of} rows are shown; the file has them all.',
  how: 'How these numbers are counted', what: 'What is counted', more: 'Explain: {name}', noName: 'Nobody', teamHours: 'team’s hours',
  jain: 'Evenness (Jain): {value}', jainUnits: 'weighed by channel: {value}', reached: 'even', notReached: 'below {target}', jainNone: 'Nothing to compare: fewer than two people, or no work.', counting: '{n} person counts | {n} people count',
  none: {
    nothing: 'Nothing to measure in this row.', totalOnly: 'Counted as of now, in the total only.', byChannel: 'For one channel nobody can tell who was free.', noShifts: 'Known only for people with shifts of their own.', noneLate: 'None was kept late.', notJudged: 'None is older than the seven days in which a customer may come back.',
  },
  source: { bot: 'Bot', chat: 'Web chat', form: 'Web form', desk: 'An agent', queue: 'The queue' },
  callbackKind: { scheduled: 'At a time', hold: 'Place in the queue' },
  hoursSource: { calendar: 'own shifts', team_calendar: 'team’s hours', presence: 'hours online' },
  col: {
    decided: 'Decided', met: 'Kept', breached: 'Broken', met_pct: 'Kept, %', ended: 'Ended', elapsed_median_s: 'Time, median', elapsed_p90_s: 'Time, 90 % within', overrun_median_s: 'Overrun, median', overrun_p90_s: 'Overrun, 90 % within', breached_open: 'Broken and open',
    offered: 'Came', answered: 'Answered', abandoned: 'Gave up', abandoned_short: 'Gave up at once', answered_within_t: 'Answered in time', callbacks_taken: 'Took a callback', withdrawn: 'Withdrawn', still_waiting: 'Waiting still',
    service_level_pct: 'Service level', service_level_negative_pct: 'Service level of all', service_level_positive_pct: 'Service level, early leavers as good', service_level_answered_pct: 'Service level of answered', service_level_short_removed_pct: 'Service level, short ones left out',
    asa_s: 'Mean wait for an answer', wait_mean_s: 'Mean wait', wait_max_s: 'Longest wait', abandoned_pct: 'Gave up, %',
    handled: 'Handled', handled_live: 'Handled live', handled_async: 'Handled in writing', transferred: 'Handed on', transfer_pct: 'Handed on, %', aht_s: 'Handle time, mean', aht_concurrency_adjusted_s: 'Handle time, shared', busy_s: 'Busy', available_s: 'Free', occupancy_pct: 'Occupancy', utilisation_pct: 'Utilisation', async_held_median_s: 'Held in writing, median',
    solved: 'Solved', reopened: 'Opened again', reopen_pct: 'Opened again, %', fcr_judged: 'Judged', fcr: 'Solved at first contact', fcr_pct: 'At first contact, %', open: 'Open', age_p50_s: 'Age, median', age_p90_s: 'Age, 90 % within', age_max_s: 'Oldest',
    booked: 'Promised', kept: 'Kept', kept_on_time: 'Kept on time', kept_late: 'Kept late', kept_on_time_pct: 'On time, %', dialled_on_time: 'Dialled on time', not_kept: 'Not kept', cancelled_customer: 'Cancelled by the customer', cancelled_agent: 'Cancelled by an agent', cancelled_system: 'Cancelled by the system', cancelled_late: 'Cancelled too late', absorbed: 'Customer called first', escalated: 'Escalated',
    attempts: 'Attempts', attempts_counted: 'Attempts that count', attempts_per_callback: 'Attempts per callback', lateness_mean_ms: 'Lateness, mean', lateness_max_ms: 'Lateness, longest', customer_first_answered: 'Customers reached first', abandoned_after_answer: 'Lost before an agent spoke', abandoned_after_answer_pct: 'Lost before an agent spoke, %',
    outcome_answered: 'Answered', outcome_busy: 'Busy', outcome_no_answer: 'No answer', outcome_machine: 'Answering machine', outcome_rejected: 'Rejected', outcome_failed: 'Call failed', outcome_invalid_number: 'Invalid number', outcome_abandoned: 'Hung up',
    units: 'Work, weighed', by_hand: 'By hand', hours: 'Hours planned', hours_source: 'Hours from', online_hours: 'Hours online', per_hour: 'Per hour', units_per_hour: 'Weighed, per hour', offers: 'Offers', accepted: 'Accepted', declined: 'Declined', missed: 'Missed', absent: 'Never there', counts: 'Counts',
  },
}

export const planning = {
  title: 'Planning', tab: { forecast: 'Who is short', risk: 'At risk', whatif: 'What if' }, toKnow: 'To know', hours: 'Hours ahead', shrinkage: 'Breaks and absence, %', target: 'Aim: % within seconds', counting: 'Counting from the record…', failed: 'This could not be counted.',
  badTarget: 'Write the aim as 80/20: per cent, then seconds.', noTeams: 'There is no team.',
  forecast: {
    about: 'What will come, whom it needs, who is planned. From {n} recorded requests.', halfHour: 'Half hour', arrivals: 'Will come', needed: 'Needed', staff: 'To plan', planned: 'Planned', short: 'Short', closed: 'closed', online: '{n} online now', shortNow: 'Short now: {n}', fine: 'Enough people are planned.', worst: 'Shortest by {n}: {at}', assumed: 'What this stands on',
    waitsHint: 'Waits already, and is to be handled in this half hour.', neededHint: 'People at work that reach the aim.', staffHint: 'Needed, with breaks, meetings and illness on top.', plannedHint: 'People whose shifts cover the half hour; without shifts of their own, the team’s hours.', shortHint: 'To plan less planned.', arrivalsHint: 'Average of the same time of the same weekday; newer weeks count more. What waits now comes on top.', needNote: 'The dashed line is who is planned, the bars how many are to be planned.',
    handle: 'handle time {time}', guessed: 'a guess', atOnce: '{n} at once', seen: '{n} seen', patience: 'patience {time}', aim: '{percent} % within {time}',
  },
  risk: {
    about: 'Open requests whose promise will probably be broken with the people who are there, and those whose shift begins later.', none: 'No open promise is at risk in the next {n} hours.', request: 'Request', due: 'Due', risk: 'Risk', why: 'Why', late: 'late', waiting: '{n} waiting', lateN: '{n} late already', expected: 'about {n} more will break', of: 'no request',
  },
  why: {
    late: 'Its time is over. With those who are there it will be answered at about {time}.', lateNobody: 'Its time is over, and most probably nobody who is there or will come gets to it in these hours.', nobody: 'Most probably nobody who is there or will come gets to it in these hours.', away: '{name} has it and is not online.', inHand: '{name} gets to it at about {time}, after what is due earlier.',
    waits: 'It waits for a person until about {time}, which is too late.', mayBe: 'Usually answered by {time}, but too late in {n} of 100 tries.',
  },
  whatif: {
    about: 'Play a recorded period again, with other people or settings. Nothing is changed by it.', period: 'Period that was recorded', team: 'Only this team', people: 'People', addPeople: 'Add people', to: 'to', like: 'work like', teamHours: 'the team’s hours', always: 'around the clock', without: 'Without these people', limits: 'At once per person', addLimit: 'Set a limit', most: 'at most',
    json: 'Write the change as JSON', jsonHint: 'Everything that can be changed is in the documentation of planning. What stands here is asked.', badJson: 'This is no JSON object: {why}', seeds: 'Runs', seedsHint: 'More runs tell chance apart better, and take longer.', run: 'Play it', empty: 'Say first what should have been different.', asked: 'Earlier questions', none: 'Nothing has been asked yet.', remove: 'Remove', nothingDid: 'no change',
    state: { queued: 'waiting', running: 'playing', done: 'done', failed: 'failed' }, wait: 'It is being played. This may take a minute or two; you may leave the page.', back: 'New question', recorded: 'Recorded', was: 'As it was', changed: 'Changed', difference: 'Difference', total: 'All together', within: 'in time means within {time}',
    explain: 'Compare “as it was” with “changed”: both are simulated. “Recorded” shows how true the simulation is.', requests: '{n} request | {n} requests', runs: '{n} run | {n} runs', agents: 'People', handled: 'Handled', workH: 'Work', busy: 'Busy', fairness: 'Evenness (Jain)', figure: 'Figure', newPerson: 'added', gone: 'not there',
  },
  did: { added: '+{n} in {team}', removed: 'without {names}', changed: '{names} changed', limit: '{team}, {channel}: {n} at once', settings: '{team}: {names}' },
  verdict: { better: 'better', worse: 'worse', chance: 'chance', same: 'the same' },
  verdictHint: { better: 'Better, and more than chance.', worse: 'Worse, and more than chance.', chance: 'Within chance: more runs, or no effect.', same: 'No difference.' },
  channel: { voice: 'Calls', chat: 'Chats', async: 'Email, forms', callback: 'Callbacks' },
  fig: {
    offered: 'Came', answered: 'Answered', abandoned: 'Gave up', unfinished: 'Waiting at the end', service_level_pct: 'Service level', service_level_of_offered_pct: 'Service level of all', abandoned_pct: 'Gave up, %', asa_s: 'Mean wait for an answer', wait_p50_s: 'Wait, half within', wait_p90_s: 'Wait, 90 % within', wait_p99_s: 'Wait, 99 % within', longest_wait_s: 'Longest wait', promised: 'With a deadline', breached: 'Deadline broken', breached_pct: 'Deadline broken, %',
  },
}
