import type { Messages } from './en'
import { planning, reports } from './supervise.uk'

const uk: Messages = {
  app: { name: 'Switchboard', tagline: 'Одне робоче місце для всіх звернень' },
  login: {
    title: 'Вхід', email: 'Електронна пошта', password: 'Пароль', submit: 'Увійти', wrong: 'Неправильна пошта або пароль.',
    slow: 'Забагато спроб. Зачекайте трохи.', language: 'Мова',
  },
  nav: {
    inbox: 'Звернення', callbacks: 'Дзвінки', contacts: 'Контакти', wall: 'Табло', reports: 'Звіти', planning: 'Планування', intake: 'Приймання', admin: 'Параметри',
    search: 'Пошук за ім’ям, номером, текстом', searchNothing: 'Нічого не знайдено', signOut: 'Вийти', theme: 'Світла чи темна тема',
    shortcuts: 'Гарячі клавіші', language: 'Мова', more: 'Моє меню',
  },
  link: { live: 'На зв’язку', connecting: 'З’єднання…', waiting: 'Відновлюємо зв’язок…', closed: 'Немає зв’язку', unauthenticated: 'Вихід виконано' },
  presence: {
    notResponding: 'Не відповідає', notRespondingNow: 'Ви не відповіли на пропозиції, тому вам поставлено перерву. Поверніться — натисніть «На місці».',
    title: 'Моя доступність', online: 'На місці', break: 'Перерва', dnd: 'Не турбувати', offline: 'Не в мережі',
    away_reassign: 'Іду, передати мої звернення', wrapup: 'Завершує роботу', capacity: 'Завантаженість', load: 'Зайнято {used} з {max}',
  },
  bell: {
    title: 'Сповіщення', open: 'Сповіщення, непрочитаних: {n}', empty: 'Вам ще нічого не повідомляли', readAll: 'Позначити все прочитаним', read: 'Позначити прочитаним', more: 'і ще {n}',
    kind: { sla: 'Обіцянки', page: 'Чергування', storm: 'Багато обіцянок одразу' },
    page: 'Хтось потрібен зараз', pageTeam: '{team}: хтось потрібен зараз', asked: '{n} запит | {n} запити | {n} запитів', called: '{n} виклик | {n} виклики | {n} викликів', acknowledge: 'Я цим займуся', acknowledged: 'Це ваше: більше нікого не викликають.',
  },
  scope: { mine: 'Мої', queue: 'Черга', all: 'Усі' },
  list: {
    attachment: 'Вкладення',
    filters: 'Фільтри', kind: 'Вид', anyKind: 'Заявки та ліди', status: 'Статус', channel: 'Канал', anyChannel: 'Усі канали',
    team: 'Команда', anyTeam: 'Усі команди', everything: 'Усі статуси', search: 'Пошук у списку',
    sortUpdated: 'Спершу нові', sortDue: 'Спершу термінові', empty: 'Тут порожньо', emptyMine: 'Наразі для вас роботи немає.',
    emptyQueue: 'Ніхто не чекає.', more: 'Показати ще', failed: 'Не вдалося завантажити список.', again: 'Спробувати ще раз',
    unread: 'Непрочитане', bot: 'З ботом', nobody: 'Не призначено', label: 'Звернення', noSubject: 'Без теми', fresh: 'Нове звернення',
  },
  kind: { ticket: 'Заявка', lead: 'Лід' },
  status: { new: 'Нове', open: 'Відкрите', pending: 'Чекає на клієнта', hold: 'Відкладене', solved: 'Вирішене', closed: 'Закрите' },
  stage: { new: 'Новий', contacted: 'Є контакт', qualified: 'Кваліфікований', proposal: 'Пропозиція', won: 'Виграний', lost: 'Втрачений' },
  priority: { low: 'Низький', normal: 'Звичайний', high: 'Високий', urgent: 'Терміновий' },
  channel: {
    telegram: 'Telegram', email: 'Пошта', chat: 'Чат на сайті', webchat: 'Чат на сайті', voice: 'Телефон', phone: 'Телефон', call: 'Телефон', telephony: 'Телефон', desk: 'Робоче місце', form: 'Форма на сайті',
    callback: 'Зворотний дзвінок', other: 'Інше',
  },
  role: { agent: 'Менеджер', supervisor: 'Старший зміни', admin: 'Адміністратор' },
  sla: {
    title: 'Терміни', proof: 'Доказ (CSV)', proofHint: 'Кожна хвилина, що рахувалася або стояла, і чому', none: 'Термінів немає', left: '{metric}: лишилося {time}', breached: '{metric}: порушено {time} тому', breachedAgo: 'порушено {time} тому',
    due: 'до {time}', paused: 'на паузі', met: 'виконано', metAt: 'виконано {time}', missed: 'порушено', late: 'запізнення {time}', target: 'норма {time}', cancelled: 'скасовано',
    noTarget: 'без норми', first_reply: 'Перша відповідь', next_reply: 'Наступна відповідь', periodic_update: 'Новини клієнту', pausable_update: 'Новини клієнту',
    requester_wait: 'Очікування клієнта', agent_work: 'Наша робота', total_resolution: 'Вирішення', speed_of_answer: 'Прийняття', callback: 'Зворотний дзвінок',
  },
  units: { d: 'дн', h: 'год', m: 'хв', s: 'с' },
  offers: {
    title: 'Робота для вас', one: 'Нове звернення для вас: {channel}', accept: 'Прийняти', decline: 'Відмовитися', left: 'на відповідь {time}',
    more: 'чекає ще {n} пропозиція | чекають ще {n} пропозиції | чекають ще {n} пропозицій',
    expired: 'Час пропозиції минув.', taken: 'Звернення вже взяв колега.', call: 'Вхідний дзвінок', callback: 'Треба передзвонити', from: 'від {name}',
  },
  thread: {
    pick: 'Виберіть звернення зі списку', pickHint: 'Клавіші j та k рухають списком', loading: 'Завантажуємо…', gone: 'Це звернення не можна відкрити.',
    empty: 'Повідомлень ще немає', quoted: 'Цитований текст', hideQuoted: 'Сховати цитату', noImages: 'Зображення з інших серверів не завантажуються.', typing: '{name} пише…', someone: 'Хтось',
    messages: 'Повідомлення', note: 'Внутрішня нотатка', bot: 'бот', customer: 'Клієнт', today: 'Сьогодні', yesterday: 'Учора', newBelow: 'Нижче нові повідомлення', original: 'Показати текст',
    asHtml: 'Показати оформлення', inboundCall: 'Вхідний дзвінок', outboundCall: 'Вихідний дзвінок', talk: 'розмова {time}', wait: 'очікування {time}', recording: 'Запис', close: 'Закрити панель',
    details: 'Подробиці', back: 'До списку', attachmentBlocked: 'не збережено', edited: 'змінено',
  },
  merge: {
    title: 'Об’єднати з іншим зверненням', open: 'Об’єднати', hint: 'Це звернення закриється як частина вибраного. Його повідомлення можна буде читати там.', target: 'Звернення того самого контакту', none: 'У контакту немає інших відкритих звернень.', note: 'Нотатка (необов’язково)', public: 'Надіслати нотатку клієнтові', go: 'Об’єднати', done: 'Об’єднано.',
    into: 'Об’єднано зі зверненням №{n}', follow: 'Перейти', split: 'Відокремити', splitDone: 'Повідомлення тепер має власне звернення: №{n}.', splitAsk: 'Зробити з цього повідомлення окреме звернення', subject: 'Тема (необов’язково)',
  },
  state: {
    received: 'Отримано', queued: 'Чекає на надсилання', sending: 'Надсилаємо…', sent: 'Надіслано', delivered: 'Доставлено', read: 'Прочитано',
    failed: 'Не доставлено', unknown: 'Доставка невідома', resend: 'Надіслати ще раз', localFailed: 'Не надіслано', retry: 'Спробувати ще раз', discard: 'Прибрати',
  },
  composer: {
    reply: 'Відповідь', note: 'Внутрішня нотатка', replyHint: 'Напишіть клієнтові…', noteHint: 'Цю нотатку бачать лише колеги…', send: 'Надіслати', addNote: 'Додати нотатку',
    sendAnd: 'Надіслати та поставити', attach: 'Додати файл', uploading: 'Завантажуємо…', remove: 'Прибрати {name}', keys: 'Ctrl+Enter надсилає', replyTo: 'У відповідь на', cancelReply: 'Не цитувати',
    closed: 'Це звернення закрите й таким лишиться. Відповідь клієнта відкриє нове.', botHolds: 'З клієнтом говорить бот. Ваша відповідь перехопить розмову.', 
  },
  actions: {
    take: 'Взяти', taken: 'Звернення тепер ваше.', transfer: 'Передати', transferTitle: 'Передати звернення', toAgent: 'Колезі', toTeam: 'Команді', noteOptional: 'Нотатка для колеги (необов’язково)',
    transferred: 'Передано.', release: 'Повернути в чергу', released: 'Повернуто в чергу.', solve: 'Вирішити', save: 'Зберегти', cancel: 'Скасувати', edit: 'Змінити', create: 'Створити', close: 'Закрити', delete: 'Видалити',
    refresh: 'Оновити', copy: 'Копіювати', copied: 'Скопійовано.', saved: 'Збережено.', yes: 'Так', no: 'Ні', add: 'Додати', reload: 'Перезавантажити', confirm: 'Підтвердити',
  },
  panel: {
    properties: 'Властивості', why: 'Чому тут', whyWaiting: 'Чому чекає', callbacks: 'Зворотні дзвінки', history: 'Історія', open: 'Картка', verified: 'Підтверджено', unverified: 'Не підтверджено', splitFrom: 'Виділено з', vip: 'VIP', blocked: 'Заблоковано',
    status: 'Статус', kind: 'Вид', stage: 'Етап', priority: 'Пріоритет', team: 'Команда', assignee: 'Відповідальний', tags: 'Мітки', value: 'Сума', subject: 'Тема', source: 'Джерело', 
    localTime: 'Місцевий час {time}', manager: 'Менеджер', none: 'Немає', noHistory: 'Раніше нічого не було', noCallbacks: 'Зворотних дзвінків немає', currency: 'Валюта',
  },
  why: {
    title: 'Чому ця людина, чому чекаємо', decisions: 'Рішення', waiting: 'Зараз чекає', step: 'Крок {step}', widens: 'більше людей через {time}', nobody: 'Рішення ще не було', considered: 'Кого розглянуто', loadFailed: 'Не вдалося завантажити пояснення.',
  },
  callback: {
    book: 'Замовити дзвінок', title: 'Зворотний дзвінок', phone: 'Телефон', from: 'Від', to: 'До', zone: 'Часовий пояс клієнта', note: 'Нотатка', save: 'Замовити', saved: 'Дзвінок заплановано.', yourTime: '{from} – {to} за вашим часом', dial: 'Набрати', dialling: 'Набираємо…',
    record: 'Записати підсумок', outcome: 'Підсумок', cancel: 'Скасувати дзвінок', cancelled: 'Дзвінок скасовано.', reason: 'Причина', recorded: 'Підсумок записано.', attempts: '{n} спроба | {n} спроби | {n} спроб', attempt: 'Спроба {n} з {max}', next: 'наступна спроба {time}', window: 'Час',
    owner: 'Хто дзвонить', contact: 'Контакт', state: 'Стан', empty: 'Дзвінків тут немає', open: 'До виконання', mine: 'Мої', done: 'Виконані', escalated: 'Прострочені', all: 'Усі', noPhone: 'Номер невідомий. Введіть його, будь ласка.', badPhone: 'Це не схоже на номер телефону.', badWindow: 'Кінець має бути пізніше за початок.', past: 'Цей час уже минув.',
    inquiry: 'Звернення', quick30: 'За 30 хв', quick2h: 'За 2 години', tomorrow: 'Завтра вранці', reschedule: 'Перенести', overdue: 'запізнення {time}', due: 'через {time}', now: 'зараз', anyone: 'Хто буде вільний',
    later: 'Пізніше', snooze: 'через {time}', snoozeUsual: 'у звичний час', snoozed: 'Відкладено.', resume: 'Продовжити', resumed: 'Спроби тривають.', paused: 'Спроби на паузі: клієнт звернувся сам', closing: 'Дзвонити не треба', closeWhy: 'Чому дзвонити не треба?', closed: 'Закрито.', asks: 'Питаємо по черзі',
    slots: 'Вільні пів години команди', noSlots: 'Найближчими днями вільних пів годин немає', slotLeft: 'лишилося {n}', isSlot: 'Буде замовлено, лише якщо ці пів години ще вільні',
    hold: 'Місце в черзі', keptBy: 'виконати до {time}', manual: 'Наберіть вручну: {phone}',
  },
  callbackMode: { preview: 'Спершу картка', agent_first: 'Спершу менеджер', customer_first: 'Спершу клієнт' },
  chainRole: { owner: 'відповідальний', deputy: 'заступник', team: 'команда' },
  chainResult: { asked: 'питаємо зараз', took: 'взяв', not_taken: 'не взяв', declined: 'відмовився', offline: 'немає на місці', busy: 'зайнятий', inactive: 'не працює', next: 'ще не питали' },
  callbackState: { scheduled: 'Заплановано', due: 'Час дзвонити', offered: 'Запропоновано', dialling: 'Набираємо', paused: 'Призупинено', done: 'Виконано', cancelled: 'Скасовано', escalated: 'Ескальовано' },
  callOutcome: { answered: 'Відповіли', busy: 'Зайнято', no_answer: 'Немає відповіді', machine: 'Автовідповідач', rejected: 'Відхилено', failed: 'Збій дзвінка', invalid_number: 'Неправильний номер', abandoned: 'Кинув слухавку', snoozed: 'Відкладено' },
  contacts: {
    visitor: 'Відвідувач чату',
    title: 'Контакти', search: 'Ім’я, телефон, пошта', empty: 'Контактів не знайдено', identities: 'Адреси', timeline: 'Стрічка подій', inquiries: 'Звернення', edit: 'Змінити контакт', name: 'Ім’я', zone: 'Часовий пояс', locale: 'Мова', since: 'Клієнт від {date}', unnamed: 'Без імені',
    message: 'Повідомлення', call: 'Дзвінок', inquiry: 'Звернення', callback: 'Зворотний дзвінок', event: 'Подія', more: 'Раніше', attributes: 'Подробиці', mergedInto: 'Об’єднано з іншою карткою', openMerged: 'Відкрити ту картку', proof: 'Відомо з',
  },
  wall: {
    title: 'Табло', waiting: 'чекають', longest: 'найдовше чекають', breached: 'порушено', expectedVoice: 'Наступний дзвінок: близько {range} хв', expectedChat: 'Наступний чат: близько {range} хв', dueSoon: 'скоро термін', online: 'на місці', agents: 'Люди', breaches: 'Порушені терміни', noBreaches: 'Усі обіцянки виконано', callbacks: 'Зворотні дзвінки',
    due: 'час дзвонити', escalated: 'ескальовано', since: '{time}', empty: 'Команд ще немає', full: 'На весь екран', desk: 'До робочого місця', nobody: 'Ніхто не чекає', stale: 'Зв’язок втрачено, показано останній відомий стан', 
  },
  intake: {
    title: 'Приймання', hint: 'Усе, що передали канали, у первісному вигляді. Те, чого не вдалося зрозуміти, лежить тут, доки хтось не вирішить.', quarantined: 'Карантин', received: 'У роботі', done: 'Опрацьовано', discarded: 'Відкинуто', view: 'Переглянути', replay: 'Опрацювати знову', discard: 'Відкинути',
    replayed: 'Надіслано на повторне опрацювання.', discardedNow: 'Відкинуто. Первісна копія лишається до планового очищення.', empty: 'Тут порожньо', error: 'Помилка', inbox: 'Канал', size: 'Розмір', at: 'Отримано', key: 'Ключ', headers: 'Заголовки', body: 'Вміст', binary: 'Двійковий вміст, показано як base64', discardAsk: 'Відкинути? Це не стане повідомленням.', all: 'Усі', noBody: 'Вміст порожній', anyInbox: 'Усі канали',
  },
  admin: {
    anyOther: 'Будь-який інший',
    title: 'Налаштування', inboxes: 'Канали', teams: 'Команди', agents: 'Люди', policies: 'Правила SLA', name: 'Назва', channel: 'Канал', key: 'Ключ', health: 'Стан', enabled: 'Увімкнено', team: 'Команда', defaultKind: 'Створює', hook: 'Адреса вебхука', email: 'Електронна пошта', role: 'Роль', languages: 'Мови', skills: 'Навички',
    active: 'Працює', extension: 'Внутрішній номер', presence: 'Доступність', conditions: 'Умови', targets: 'Норми', version: 'Версія', readOnly: 'Змінювати може лише адміністратор.', newAgent: 'Додати людину', password: 'Пароль', address: 'Адреса', calendar: 'Календар', business: 'робочий час', minutes: '{n} хв', members: 'Люди', always: 'кожне звернення', config: 'Параметри', position: 'Порядок', editSkills: 'назва:рівень, через кому',
  },
  reports,
  planning,
  create: { title: 'Нове звернення', contact: 'Контакт', newContact: 'Новий контакт', subject: 'Тема', text: 'Перша нотатка', created: 'Звернення створено.', phone: 'Телефон', email: 'Електронна пошта', name: 'Ім’я', find: 'Знайти контакт' },
  keys: { title: 'Гарячі клавіші', move: 'Наступне або попереднє звернення', reply: 'Відповідь', note: 'Внутрішня нотатка', send: 'Надіслати', accept: 'Прийняти пропозицію', decline: 'Відмовитися від пропозиції', search: 'Пошук', help: 'Ця довідка', esc: 'Вийти з поля', take: 'Взяти звернення' },
  time: { now: 'щойно', ago: '{time} тому', in: 'через {time}' },
  errors: {
    unreachable: 'Сервер недоступний. Перевірте з’єднання.', unexpected: 'Тут щось пішло не так. Перезавантажте сторінку.', logId: 'журнал {id}', lost: 'Такої сторінки немає', home: 'До звернень', needName: 'Введіть ім’я.', needSubject: 'Введіть тему.', needTarget: 'Виберіть колегу або команду.',
  },
}

export default uk
