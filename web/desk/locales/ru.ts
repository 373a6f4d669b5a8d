import type { Messages } from './en'
import { planning, reports } from './supervise.ru'

const ru: Messages = {
  app: { name: 'Switchboard', tagline: 'Одно рабочее место для всех обращений' },
  login: {
    title: 'Вход', email: 'Электронная почта', password: 'Пароль', submit: 'Войти', wrong: 'Неверная почта или пароль.',
    slow: 'Слишком много попыток. Подождите немного.', language: 'Язык',
  },
  nav: {
    inbox: 'Обращения', callbacks: 'Звонки', contacts: 'Контакты', wall: 'Табло', reports: 'Отчёты', planning: 'План', intake: 'Приём', admin: 'Настройки',
    search: 'Поиск по имени, номеру, тексту', searchNothing: 'Ничего не найдено', signOut: 'Выйти', theme: 'Светлая или тёмная тема',
    shortcuts: 'Горячие клавиши', language: 'Язык', more: 'Моё меню',
  },
  link: { live: 'На связи', connecting: 'Соединение…', waiting: 'Восстанавливаем связь…', closed: 'Нет связи', unauthenticated: 'Выход выполнен' },
  presence: {
    notResponding: 'Не отвечает', notRespondingNow: 'Вы не ответили на предложения, поэтому вам поставлен перерыв. Вернётесь — нажмите «На месте».',
    title: 'Моя доступность', online: 'На месте', break: 'Перерыв', dnd: 'Не беспокоить', offline: 'Не в сети',
    away_reassign: 'Ухожу, передать мои обращения', wrapup: 'Завершает работу', capacity: 'Загрузка', load: 'Занято {used} из {max}',
  },
  bell: {
    title: 'Уведомления', open: 'Уведомления, непрочитанных: {n}', empty: 'Вам ещё ничего не сообщали', readAll: 'Отметить всё прочитанным', read: 'Отметить прочитанным', more: 'и ещё {n}',
    kind: { sla: 'Обещания', page: 'Дежурство', storm: 'Много обещаний сразу' },
    page: 'Кто-то нужен сейчас', pageTeam: '{team}: кто-то нужен сейчас', asked: '{n} запрос | {n} запроса | {n} запросов', called: '{n} вызов | {n} вызова | {n} вызовов', acknowledge: 'Я этим займусь', acknowledged: 'Это ваше: больше никого не вызывают.',
  },
  scope: { mine: 'Мои', queue: 'Очередь', all: 'Все' },
  list: {
    attachment: 'Вложение',
    filters: 'Фильтры', kind: 'Вид', anyKind: 'Заявки и лиды', status: 'Статус', channel: 'Канал', anyChannel: 'Все каналы',
    team: 'Команда', anyTeam: 'Все команды', everything: 'Все статусы', search: 'Поиск в списке',
    sortUpdated: 'Сначала новые', sortDue: 'Сначала срочные', empty: 'Здесь пусто', emptyMine: 'Сейчас для вас работы нет.',
    emptyQueue: 'Никто не ждёт.', more: 'Показать ещё', failed: 'Не удалось загрузить список.', again: 'Попробовать ещё раз',
    unread: 'Непрочитанное', bot: 'С ботом', nobody: 'Не назначено', label: 'Обращения', noSubject: 'Без темы', fresh: 'Новое обращение',
  },
  kind: { ticket: 'Заявка', lead: 'Лид' },
  status: { new: 'Новое', open: 'Открыто', pending: 'Ждём клиента', hold: 'Отложено', solved: 'Решено', closed: 'Закрыто' },
  stage: { new: 'Новый', contacted: 'Есть контакт', qualified: 'Квалифицирован', proposal: 'Предложение', won: 'Выигран', lost: 'Потерян' },
  priority: { low: 'Низкий', normal: 'Обычный', high: 'Высокий', urgent: 'Срочный' },
  channel: {
    telegram: 'Telegram', email: 'Почта', chat: 'Чат на сайте', webchat: 'Чат на сайте', voice: 'Телефон', phone: 'Телефон', call: 'Телефон', telephony: 'Телефон', desk: 'Рабочее место', form: 'Форма на сайте',
    callback: 'Обратный звонок', other: 'Другое',
  },
  role: { agent: 'Менеджер', supervisor: 'Старший смены', admin: 'Администратор' },
  sla: {
    title: 'Сроки', proof: 'Доказательство (CSV)', proofHint: 'Каждая минута, что шла или стояла, и почему', none: 'Сроков нет', left: '{metric}: осталось {time}', breached: '{metric}: нарушено {time} назад', breachedAgo: 'нарушено {time} назад',
    due: 'до {time}', paused: 'на паузе', met: 'выполнено', metAt: 'выполнено {time}', missed: 'нарушено', late: 'опоздание {time}', target: 'норма {time}', cancelled: 'отменено',
    noTarget: 'без нормы', first_reply: 'Первый ответ', next_reply: 'Следующий ответ', periodic_update: 'Новости клиенту', pausable_update: 'Новости клиенту',
    requester_wait: 'Ожидание клиента', agent_work: 'Наша работа', total_resolution: 'Решение', speed_of_answer: 'Приём', callback: 'Обратный звонок',
  },
  units: { d: 'дн', h: 'ч', m: 'мин', s: 'с' },
  offers: {
    title: 'Работа для вас', one: 'Новое обращение для вас: {channel}', accept: 'Принять', decline: 'Отказаться', left: 'на ответ {time}',
    more: 'ждёт ещё {n} предложение | ждут ещё {n} предложения | ждут ещё {n} предложений',
    expired: 'Время предложения истекло.', taken: 'Обращение уже взял коллега.', call: 'Входящий звонок', callback: 'Нужно перезвонить', from: 'от {name}',
  },
  thread: {
    pick: 'Выберите обращение из списка', pickHint: 'Клавиши j и k двигают список', loading: 'Загружаем…', gone: 'Это обращение нельзя открыть.',
    empty: 'Сообщений ещё нет', quoted: 'Цитируемый текст', hideQuoted: 'Скрыть цитату', noImages: 'Изображения с других серверов не загружаются.', typing: '{name} печатает…', someone: 'Кто-то',
    messages: 'Сообщения', note: 'Внутренняя заметка', bot: 'бот', customer: 'Клиент', today: 'Сегодня', yesterday: 'Вчера', newBelow: 'Ниже новые сообщения', original: 'Показать текст',
    asHtml: 'Показать оформление', inboundCall: 'Входящий звонок', outboundCall: 'Исходящий звонок', talk: 'разговор {time}', wait: 'ожидание {time}', recording: 'Запись', close: 'Закрыть панель',
    details: 'Подробности', back: 'К списку', attachmentBlocked: 'не сохранено', edited: 'изменено',
  },
  merge: {
    title: 'Объединить с другим обращением', open: 'Объединить', hint: 'Это обращение закроется как часть выбранного. Его сообщения можно будет читать там.', target: 'Обращение того же контакта', none: 'У контакта нет других открытых обращений.', note: 'Заметка (необязательно)', public: 'Отправить заметку клиенту', go: 'Объединить', done: 'Объединено.',
    into: 'Объединено с обращением №{n}', follow: 'Перейти', split: 'Отделить', splitDone: 'У сообщения теперь своё обращение: №{n}.', splitAsk: 'Сделать из этого сообщения отдельное обращение', subject: 'Тема (необязательно)',
  },
  state: {
    received: 'Получено', queued: 'Ждёт отправки', sending: 'Отправляем…', sent: 'Отправлено', delivered: 'Доставлено', read: 'Прочитано',
    failed: 'Не доставлено', unknown: 'Доставка неизвестна', resend: 'Отправить ещё раз', localFailed: 'Не отправлено', retry: 'Попробовать ещё раз', discard: 'Убрать',
  },
  composer: {
    reply: 'Ответ', note: 'Внутренняя заметка', replyHint: 'Напишите клиенту…', noteHint: 'Эту заметку видят только коллеги…', send: 'Отправить', addNote: 'Добавить заметку',
    sendAnd: 'Отправить и поставить', attach: 'Прикрепить файл', uploading: 'Загружаем…', remove: 'Убрать {name}', keys: 'Ctrl+Enter отправляет', replyTo: 'В ответ на', cancelReply: 'Не цитировать',
    closed: 'Это обращение закрыто и таким останется. Ответ клиента откроет новое.', botHolds: 'С клиентом говорит бот. Ваш ответ перехватит разговор.', 
  },
  actions: {
    take: 'Взять', taken: 'Обращение теперь ваше.', transfer: 'Передать', transferTitle: 'Передать обращение', toAgent: 'Коллеге', toTeam: 'Команде', noteOptional: 'Заметка для коллеги (необязательно)',
    transferred: 'Передано.', release: 'Вернуть в очередь', released: 'Возвращено в очередь.', solve: 'Решить', save: 'Сохранить', cancel: 'Отменить', edit: 'Изменить', create: 'Создать', close: 'Закрыть', delete: 'Удалить',
    refresh: 'Обновить', copy: 'Копировать', copied: 'Скопировано.', saved: 'Сохранено.', yes: 'Да', no: 'Нет', add: 'Добавить', reload: 'Перезагрузить', confirm: 'Подтвердить',
  },
  panel: {
    properties: 'Свойства', why: 'Почему здесь', whyWaiting: 'Почему ждёт', callbacks: 'Обратные звонки', history: 'История', open: 'Карточка', verified: 'Подтверждено', unverified: 'Не подтверждено', splitFrom: 'Выделено из', vip: 'VIP', blocked: 'Заблокирован',
    status: 'Статус', kind: 'Вид', stage: 'Этап', priority: 'Приоритет', team: 'Команда', assignee: 'Ответственный', tags: 'Метки', value: 'Сумма', subject: 'Тема', source: 'Источник', 
    localTime: 'Местное время {time}', manager: 'Менеджер', none: 'Нет', noHistory: 'Раньше ничего не было', noCallbacks: 'Обратных звонков нет', currency: 'Валюта',
  },
  why: {
    title: 'Почему этот человек, почему ждём', decisions: 'Решения', waiting: 'Сейчас ждёт', step: 'Шаг {step}', widens: 'больше людей через {time}', nobody: 'Решения ещё не было', considered: 'Кого рассмотрели', loadFailed: 'Не удалось загрузить объяснение.',
  },
  callback: {
    book: 'Заказать звонок', title: 'Обратный звонок', phone: 'Телефон', from: 'С', to: 'До', zone: 'Часовой пояс клиента', note: 'Заметка', save: 'Заказать', saved: 'Звонок запланирован.', yourTime: '{from} – {to} по вашему времени', dial: 'Набрать', dialling: 'Набираем…',
    record: 'Записать итог', outcome: 'Итог', cancel: 'Отменить звонок', cancelled: 'Звонок отменён.', reason: 'Причина', recorded: 'Итог записан.', attempts: '{n} попытка | {n} попытки | {n} попыток', attempt: 'Попытка {n} из {max}', next: 'следующая попытка {time}', window: 'Время',
    owner: 'Кто звонит', contact: 'Контакт', state: 'Состояние', empty: 'Звонков здесь нет', open: 'К выполнению', mine: 'Мои', done: 'Выполнены', escalated: 'Просрочены', all: 'Все', noPhone: 'Номер неизвестен. Введите его, пожалуйста.', badPhone: 'Это не похоже на номер телефона.', badWindow: 'Конец должен быть позже начала.', past: 'Это время уже прошло.',
    inquiry: 'Обращение', quick30: 'Через 30 мин', quick2h: 'Через 2 часа', tomorrow: 'Завтра утром', reschedule: 'Перенести', overdue: 'опоздание {time}', due: 'через {time}', now: 'сейчас', anyone: 'Кто будет свободен',
    later: 'Позже', snooze: 'через {time}', snoozeUsual: 'в обычное время', snoozed: 'Отложено.', resume: 'Продолжить', resumed: 'Попытки продолжаются.', paused: 'Попытки на паузе: клиент обратился сам', closing: 'Звонить не нужно', closeWhy: 'Почему звонить не нужно?', closed: 'Закрыто.', asks: 'Спрашиваем по очереди',
    slots: 'Свободные полчаса команды', noSlots: 'В ближайшие дни свободных получасов нет', slotLeft: 'осталось {n}', isSlot: 'Будет заказано, только если эти полчаса ещё свободны',
    hold: 'Место в очереди', keptBy: 'выполнить до {time}', manual: 'Наберите вручную: {phone}',
  },
  callbackMode: { preview: 'Сначала карточка', agent_first: 'Сначала менеджер', customer_first: 'Сначала клиент' },
  chainRole: { owner: 'ответственный', deputy: 'заместитель', team: 'команда' },
  chainResult: { asked: 'спрашиваем сейчас', took: 'взял', not_taken: 'не взял', declined: 'отказался', offline: 'нет на месте', busy: 'занят', inactive: 'не работает', next: 'ещё не спрашивали' },
  callbackState: { scheduled: 'Запланирован', due: 'Пора звонить', offered: 'Предложен', dialling: 'Набираем', paused: 'Приостановлен', done: 'Выполнен', cancelled: 'Отменён', escalated: 'Эскалирован' },
  callOutcome: { answered: 'Ответили', busy: 'Занято', no_answer: 'Нет ответа', machine: 'Автоответчик', rejected: 'Отклонён', failed: 'Сбой звонка', invalid_number: 'Неверный номер', abandoned: 'Повесил трубку', snoozed: 'Отложен' },
  contacts: {
    visitor: 'Посетитель чата',
    title: 'Контакты', search: 'Имя, телефон, почта', empty: 'Контактов не найдено', identities: 'Адреса', timeline: 'Лента событий', inquiries: 'Обращения', edit: 'Изменить контакт', name: 'Имя', zone: 'Часовой пояс', locale: 'Язык', since: 'Клиент с {date}', unnamed: 'Без имени',
    message: 'Сообщение', call: 'Звонок', inquiry: 'Обращение', callback: 'Обратный звонок', event: 'Событие', more: 'Раньше', attributes: 'Подробности', mergedInto: 'Объединён с другой карточкой', openMerged: 'Открыть ту карточку', proof: 'Известно из',
  },
  wall: {
    title: 'Табло', waiting: 'ждут', longest: 'ждут дольше всего', breached: 'нарушено', expectedVoice: 'Следующий звонок: около {range} мин', expectedChat: 'Следующий чат: около {range} мин', dueSoon: 'скоро срок', online: 'на месте', agents: 'Люди', breaches: 'Нарушенные сроки', noBreaches: 'Все обещания выполнены', callbacks: 'Обратные звонки',
    due: 'пора звонить', escalated: 'эскалировано', since: '{time}', empty: 'Команд ещё нет', full: 'На весь экран', desk: 'К рабочему месту', nobody: 'Никто не ждёт', stale: 'Связь потеряна, показано последнее известное состояние', 
  },
  intake: {
    title: 'Приём', hint: 'Всё, что передали каналы, в исходном виде. То, что не удалось понять, лежит здесь, пока кто-нибудь не решит.', quarantined: 'Карантин', received: 'В работе', done: 'Обработано', discarded: 'Отброшено', view: 'Посмотреть', replay: 'Обработать снова', discard: 'Отбросить',
    replayed: 'Отправлено на повторную обработку.', discardedNow: 'Отброшено. Исходная копия остаётся до плановой очистки.', empty: 'Здесь пусто', error: 'Ошибка', inbox: 'Канал', size: 'Размер', at: 'Получено', key: 'Ключ', headers: 'Заголовки', body: 'Содержимое', binary: 'Двоичное содержимое, показано как base64', discardAsk: 'Отбросить? Это не станет сообщением.', all: 'Все', noBody: 'Содержимое пустое', anyInbox: 'Все каналы',
  },
  admin: {
    anyOther: 'Любой другой',
    title: 'Настройки', inboxes: 'Каналы', teams: 'Команды', agents: 'Люди', policies: 'Правила SLA', name: 'Название', channel: 'Канал', key: 'Ключ', health: 'Состояние', enabled: 'Включён', team: 'Команда', defaultKind: 'Создаёт', hook: 'Адрес вебхука', email: 'Электронная почта', role: 'Роль', languages: 'Языки', skills: 'Навыки',
    active: 'Работает', extension: 'Внутренний номер', presence: 'Доступность', conditions: 'Условия', targets: 'Нормы', version: 'Версия', readOnly: 'Изменять может только администратор.', newAgent: 'Добавить человека', password: 'Пароль', address: 'Адрес', calendar: 'Календарь', business: 'рабочее время', minutes: '{n} мин', members: 'Люди', always: 'каждое обращение', config: 'Параметры', position: 'Порядок', editSkills: 'название:уровень, через запятую',
  },
  reports,
  planning,
  create: { title: 'Новое обращение', contact: 'Контакт', newContact: 'Новый контакт', subject: 'Тема', text: 'Первая заметка', created: 'Обращение создано.', phone: 'Телефон', email: 'Электронная почта', name: 'Имя', find: 'Найти контакт' },
  keys: { title: 'Горячие клавиши', move: 'Следующее или предыдущее обращение', reply: 'Ответ', note: 'Внутренняя заметка', send: 'Отправить', accept: 'Принять предложение', decline: 'Отказаться от предложения', search: 'Поиск', help: 'Эта справка', esc: 'Выйти из поля', take: 'Взять обращение' },
  time: { now: 'только что', ago: '{time} назад', in: 'через {time}' },
  errors: {
    unreachable: 'Сервер недоступен. Проверьте соединение.', unexpected: 'Здесь что-то пошло не так. Перезагрузите страницу.', logId: 'журнал {id}', lost: 'Такой страницы нет', home: 'К обращениям', needName: 'Введите имя.', needSubject: 'Введите тему.', needTarget: 'Выберите коллегу или команду.',
  },
}

export default ru
