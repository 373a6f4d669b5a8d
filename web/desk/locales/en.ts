import { planning, reports } from './supervise.en'

const en = {
  app: { name: 'Switchboard', tagline: 'One desk for every customer' },
  login: {
    title: 'Sign in', email: 'Email', password: 'Password', submit: 'Sign in', wrong: 'The email or the password is not right.',
    slow: 'Too many attempts. Please wait a little.', language: 'Language',
  },
  nav: {
    inbox: 'Inbox', callbacks: 'Callbacks', contacts: 'Contacts', wall: 'Wallboard', reports: 'Reports', planning: 'Planning', intake: 'Intake', admin: 'Settings',
    search: 'Search by name, number, text', searchNothing: 'Nothing found', signOut: 'Sign out', theme: 'Light or dark',
    shortcuts: 'Keyboard shortcuts', language: 'Language', more: 'My menu',
  },
  link: { live: 'Live', connecting: 'Connecting…', waiting: 'Reconnecting…', closed: 'Not connected', unauthenticated: 'Signed out' },
  presence: {
    notResponding: 'Not responding', notRespondingNow: 'You let offers pass unanswered and were put on a break. Go online when you are back.',
    title: 'My presence', online: 'Online', break: 'Break', dnd: 'Do not disturb', offline: 'Offline',
    away_reassign: 'Away, hand over my work', wrapup: 'Wrapping up', capacity: 'Capacity', load: 'Load {used} of {max}',
  },
  bell: {
    title: 'Notices', open: 'Notices, {n} unread', empty: 'Nothing was told to you yet', readAll: 'Mark all as read', read: 'Mark as read', more: 'and {n} more',
    kind: { sla: 'Promises', page: 'On call', storm: 'Many promises at once' },
    page: 'Somebody is needed now', pageTeam: '{team} needs somebody now', asked: 'asked {n} time | asked {n} times', called: 'called {n} time | called {n} times', acknowledge: 'I look after it', acknowledged: 'It is yours: nobody is called any more.',
  },
  scope: { mine: 'Mine', queue: 'Queue', all: 'All' },
  list: {
    attachment: 'Attachment',
    filters: 'Filters', kind: 'Kind', anyKind: 'Tickets and leads', status: 'Status', channel: 'Channel', anyChannel: 'All channels',
    team: 'Team', anyTeam: 'All teams', everything: 'Everything', search: 'Search in the list',
    sortUpdated: 'Newest first', sortDue: 'Deadline first', empty: 'Nothing here', emptyMine: 'You have nothing to do right now.',
    emptyQueue: 'Nobody is waiting.', more: 'Show more', failed: 'The list could not be loaded.', again: 'Try again',
    unread: 'Unread', bot: 'With the bot', nobody: 'Unassigned', label: 'Inquiries', noSubject: 'No subject', fresh: 'New inquiry',
  },
  kind: { ticket: 'Ticket', lead: 'Lead' },
  status: { new: 'New', open: 'Open', pending: 'Pending', hold: 'On hold', solved: 'Solved', closed: 'Closed' },
  stage: { new: 'New', contacted: 'Contacted', qualified: 'Qualified', proposal: 'Proposal', won: 'Won', lost: 'Lost' },
  priority: { low: 'Low', normal: 'Normal', high: 'High', urgent: 'Urgent' },
  channel: {
    telegram: 'Telegram', email: 'Email', chat: 'Web chat', webchat: 'Web chat', voice: 'Phone', phone: 'Phone', call: 'Phone', telephony: 'Phone', desk: 'Desk', form: 'Web form',
    callback: 'Callback', other: 'Other',
  },
  role: { agent: 'Agent', supervisor: 'Supervisor', admin: 'Administrator' },
  sla: {
    title: 'Deadlines', proof: 'Proof (CSV)', proofHint: 'Every minute that counted or paused, and why', none: 'No deadlines', left: '{metric}: {time} left', breached: '{metric}: breached {time} ago', breachedAgo: 'breached {time} ago',
    due: 'due {time}', paused: 'paused', met: 'met', metAt: 'met {time}', missed: 'missed', late: '{time} late', target: 'target {time}', cancelled: 'cancelled',
    noTarget: 'no target', first_reply: 'First reply', next_reply: 'Next reply', periodic_update: 'Update', pausable_update: 'Update',
    requester_wait: 'Customer wait', agent_work: 'Our work', total_resolution: 'Resolution', speed_of_answer: 'Answer', callback: 'Callback',
  },
  units: { d: 'd', h: 'h', m: 'm', s: 's' },
  offers: {
    title: 'Work for you', one: 'New {channel} for you', accept: 'Accept', decline: 'Decline', left: '{time} to answer', more: '{n} more waiting | {n} more waiting',
    expired: 'The offer has expired.', taken: 'A colleague has taken it already.', call: 'Incoming call', callback: 'Callback to make', from: 'from {name}',
  },
  thread: {
    pick: 'Choose an inquiry from the list', pickHint: 'Keys j and k move through it', loading: 'Loading…', gone: 'This inquiry cannot be opened.',
    empty: 'No messages yet', quoted: 'Quoted text', hideQuoted: 'Hide quoted text', noImages: 'Images kept on other servers are not loaded.', typing: '{name} is typing…', someone: 'Someone',
    messages: 'Messages', note: 'Internal note', bot: 'bot', customer: 'Customer', today: 'Today', yesterday: 'Yesterday', newBelow: 'New messages below', original: 'Show as text',
    asHtml: 'Show formatted', inboundCall: 'Incoming call', outboundCall: 'Outgoing call', talk: 'talk {time}', wait: 'waited {time}', recording: 'Recording', close: 'Close the panel',
    details: 'Details', back: 'Back to the list', attachmentBlocked: 'not stored', edited: 'edited',
  },
  merge: {
    title: 'Merge into another inquiry', open: 'Merge', hint: 'This inquiry is closed as a part of the one you choose. Its messages stay readable there.', target: 'Inquiry of the same contact', none: 'This contact has no other open inquiry.', note: 'Note (optional)', public: 'Send the note to the customer', go: 'Merge', done: 'Merged.',
    into: 'Merged into #{n}', follow: 'Go there', split: 'Split off', splitDone: 'The message has an inquiry of its own now: #{n}.', splitAsk: 'Give this message an inquiry of its own', subject: 'Subject (optional)',
  },
  state: {
    received: 'Received', queued: 'Waiting to be sent', sending: 'Sending…', sent: 'Sent', delivered: 'Delivered', read: 'Read',
    failed: 'Not delivered', unknown: 'Delivery not known', resend: 'Send again', localFailed: 'Not sent', retry: 'Try again', discard: 'Discard',
  },
  composer: {
    reply: 'Reply', note: 'Internal note', replyHint: 'Write to the customer…', noteHint: 'Only colleagues see this note…', send: 'Send', addNote: 'Add note',
    sendAnd: 'Send and set', attach: 'Attach a file', uploading: 'Uploading…', remove: 'Remove {name}', keys: 'Ctrl+Enter sends', replyTo: 'In reply to', cancelReply: 'Do not quote',
    closed: 'This inquiry is closed and stays so. What the customer answers opens a new one.', botHolds: 'The bot is talking with the customer. Your reply takes over.', 
  },
  actions: {
    take: 'Take', taken: 'It is yours now.', transfer: 'Transfer', transferTitle: 'Transfer the inquiry', toAgent: 'To a colleague', toTeam: 'To a team', noteOptional: 'Note for the colleague (optional)',
    transferred: 'Transferred.', release: 'Return to queue', released: 'Returned to the queue.', solve: 'Solve', save: 'Save', cancel: 'Cancel', edit: 'Edit', create: 'Create', close: 'Close', delete: 'Delete',
    refresh: 'Refresh', copy: 'Copy', copied: 'Copied.', saved: 'Saved.', yes: 'Yes', no: 'No', add: 'Add', reload: 'Reload', confirm: 'Confirm',
  },
  panel: {
    properties: 'Properties', why: 'Why here', whyWaiting: 'Why it waits', callbacks: 'Callbacks', history: 'History', open: 'Open the card', verified: 'Verified', unverified: 'Not verified', splitFrom: 'Split off from', vip: 'VIP', blocked: 'Blocked',
    status: 'Status', kind: 'Kind', stage: 'Stage', priority: 'Priority', team: 'Team', assignee: 'Assignee', tags: 'Tags', value: 'Value', subject: 'Subject', source: 'Source', 
    localTime: 'Local time {time}', manager: 'Manager', none: 'None', noHistory: 'Nothing happened before', noCallbacks: 'No callbacks', currency: 'Currency',
  },
  why: {
    title: 'Why this agent, why this wait', decisions: 'Decisions', waiting: 'Now waiting', step: 'Step {step}', widens: 'more people asked in {time}', nobody: 'No decision has been made yet', considered: 'People considered', loadFailed: 'The reasons could not be loaded.',
  },
  callback: {
    book: 'Book a callback', title: 'Callback', phone: 'Phone', from: 'From', to: 'Until', zone: 'Customer’s time zone', note: 'Note', save: 'Book', saved: 'Callback booked.', yourTime: '{from} – {to} your time', dial: 'Dial', dialling: 'Dialling…',
    record: 'Record outcome', outcome: 'Outcome', cancel: 'Cancel callback', cancelled: 'Callback cancelled.', reason: 'Reason', recorded: 'Outcome recorded.', attempts: '{n} attempt | {n} attempts', attempt: 'Attempt {n} of {max}', next: 'next try {time}', window: 'Window',
    owner: 'Owner', contact: 'Contact', state: 'State', empty: 'No callbacks here', open: 'To do', mine: 'Mine', done: 'Done', escalated: 'Escalated', all: 'All', noPhone: 'No phone number known. Please enter one.', badPhone: 'This does not look like a phone number.', badWindow: 'The window must end after it begins.', past: 'The window has already passed.',
    inquiry: 'Inquiry', quick30: 'In 30 min', quick2h: 'In 2 hours', tomorrow: 'Tomorrow morning', reschedule: 'Reschedule', overdue: '{time} late', due: 'in {time}', now: 'now', anyone: 'Whoever is free',
    later: 'Later', snooze: 'in {time}', snoozeUsual: 'at the usual time', snoozed: 'Put off.', resume: 'Go on', resumed: 'The attempts go on.', paused: 'Attempts rest: the customer came by himself', closing: 'No call is needed', closeWhy: 'Why is no call needed?', closed: 'Closed.', asks: 'Asked in turn',
    slots: 'Free half hours of the team', noSlots: 'No free half hour in the next days', slotLeft: '{n} left', isSlot: 'Booked only if this half hour is still free',
    hold: 'Place in the queue', keptBy: 'to be kept by {time}', manual: 'Dial by hand: {phone}',
  },
  callbackMode: { preview: 'Look first', agent_first: 'Agent first', customer_first: 'Customer first' },
  chainRole: { owner: 'owner', deputy: 'deputy', team: 'team' },
  chainResult: { asked: 'asked now', took: 'took it', not_taken: 'did not take it', declined: 'declined', offline: 'not there', busy: 'busy', inactive: 'not working', next: 'not asked yet' },
  callbackState: { scheduled: 'Scheduled', due: 'Due', offered: 'Offered', dialling: 'Dialling', paused: 'Paused', done: 'Done', cancelled: 'Cancelled', escalated: 'Escalated' },
  callOutcome: { answered: 'Answered', busy: 'Busy', no_answer: 'No answer', machine: 'Answering machine', rejected: 'Rejected', failed: 'Call failed', invalid_number: 'Invalid number', abandoned: 'Abandoned', snoozed: 'Put off' },
  contacts: {
    visitor: 'Web chat visitor',
    title: 'Contacts', search: 'Name, phone, email', empty: 'No contacts found', identities: 'Addresses', timeline: 'Timeline', inquiries: 'Inquiries', edit: 'Edit contact', name: 'Name', zone: 'Time zone', locale: 'Language', since: 'Customer since {date}', unnamed: 'No name',
    message: 'Message', call: 'Call', inquiry: 'Inquiry', callback: 'Callback', event: 'Event', more: 'Earlier', attributes: 'Details', mergedInto: 'Merged into another card', openMerged: 'Open that card', proof: 'Known from',
  },
  wall: {
    title: 'Wallboard', waiting: 'waiting', longest: 'longest wait', breached: 'breached', expectedVoice: 'Next caller: about {range} min', expectedChat: 'Next chat: about {range} min', dueSoon: 'due soon', online: 'online', agents: 'People', breaches: 'Breached deadlines', noBreaches: 'Every promise is kept', callbacks: 'Callbacks',
    due: 'due now', escalated: 'escalated', since: 'for {time}', empty: 'No teams yet', full: 'Full screen', desk: 'Back to the desk', nobody: 'Nobody waits', stale: 'Connection lost, showing the last known state', 
  },
  intake: {
    title: 'Intake', hint: 'Everything the channels handed over, as it came. What could not be understood is kept here until someone decides.', quarantined: 'Quarantined', received: 'In work', done: 'Done', discarded: 'Discarded', view: 'View', replay: 'Replay', discard: 'Discard',
    replayed: 'Sent through again.', discardedNow: 'Discarded. The raw copy stays until it is cleaned up.', empty: 'Nothing here', error: 'Error', inbox: 'Inbox', size: 'Size', at: 'Received', key: 'Key', headers: 'Headers', body: 'Body', binary: 'Binary content, shown as base64', discardAsk: 'Discard this item? It will not become a message.', all: 'All', noBody: 'The body is empty', anyInbox: 'All inboxes',
  },
  admin: {
    anyOther: 'Any other',
    title: 'Settings', inboxes: 'Inboxes', teams: 'Teams', agents: 'People', policies: 'SLA policies', name: 'Name', channel: 'Channel', key: 'Key', health: 'Health', enabled: 'Enabled', team: 'Team', defaultKind: 'Makes', hook: 'Webhook address', email: 'Email', role: 'Role', languages: 'Languages', skills: 'Skills',
    active: 'Active', extension: 'Extension', presence: 'Presence', conditions: 'Conditions', targets: 'Targets', version: 'Version', readOnly: 'Only an administrator may change this.', newAgent: 'Add a person', password: 'Password', address: 'Address', calendar: 'Calendar', business: 'business hours', minutes: '{n} min', members: 'People', always: 'every inquiry', config: 'Configuration', position: 'Order', editSkills: 'name:level, comma separated',
  },
  reports,
  planning,
  create: { title: 'New inquiry', contact: 'Contact', newContact: 'New contact', subject: 'Subject', text: 'First note', created: 'Inquiry created.', phone: 'Phone', email: 'Email', name: 'Name', find: 'Find a contact' },
  keys: { title: 'Keyboard shortcuts', move: 'Next or previous inquiry', reply: 'Reply', note: 'Internal note', send: 'Send', accept: 'Accept the offer', decline: 'Decline the offer', search: 'Search', help: 'This help', esc: 'Leave the field', take: 'Take the inquiry' },
  time: { now: 'just now', ago: '{time} ago', in: 'in {time}' },
  errors: {
    unreachable: 'The server cannot be reached. Check the connection.', unexpected: 'Something went wrong here. Please reload the page.', logId: 'log {id}', lost: 'There is no such page', home: 'Go to the inbox', needName: 'Please enter a name.', needSubject: 'Please enter a subject.', needTarget: 'Choose a colleague or a team.',
  },
}

type Texts<T> = { [K in keyof T]: T[K] extends string ? string : Texts<T[K]> }
export type Messages = Texts<typeof en>
export default en
