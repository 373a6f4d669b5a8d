"""What the bot says by itself, in every language it speaks. A flow may replace any of these under `texts`.

Places in braces are filled by `bots.engine`: {next_opening}, {call_time}, {phone}, {label}.
"""

from collections.abc import Mapping

PHRASES: Mapping[str, Mapping[str, str]] = {
    "acknowledge": {
        "uk": "Дякуємо за звернення! Передаю його колегам, вони відповідять тут.",
        "ru": "Спасибо за обращение! Передаю его коллегам, они ответят здесь.",
        "en": "Thank you for your message! I am passing it to my colleagues, they will answer here.",
    },
    "refine": {
        "uk": "Якщо бажаєте, уточніть тему:",
        "ru": "Если хотите, уточните тему:",
        "en": "If you like, tell us the topic:",
    },
    "refined": {
        "uk": "Дякую, занотовано: {label}.",
        "ru": "Спасибо, записано: {label}.",
        "en": "Thank you, noted: {label}.",
    },
    "person": {
        "uk": "Добре, кличу колегу. Він відповість тут.",
        "ru": "Хорошо, зову коллегу. Он ответит здесь.",
        "en": "All right, I am calling a colleague, who will answer here.",
    },
    "person_already": {
        "uk": "Ваше звернення вже в колег, вони відповідять тут.",
        "ru": "Ваше обращение уже у коллег, они ответят здесь.",
        "en": "Your request is with my colleagues already, they will answer here.",
    },
    "closed": {
        "uk": "Зараз ми зачинені. Відчинимось {next_opening} і відповімо щойно зможемо.",
        "ru": "Сейчас мы закрыты. Откроемся {next_opening} и ответим, как только сможем.",
        "en": "We are closed at the moment. We open {next_opening} and will answer as soon as we can.",
    },
    "closed_no_opening": {
        "uk": "Зараз ми зачинені. Відповімо, щойно зможемо.",
        "ru": "Сейчас мы закрыты. Ответим, как только сможем.",
        "en": "We are closed at the moment. We will answer as soon as we can.",
    },
    "not_understood": {
        "uk": "Вибачте, я не зрозумів.",
        "ru": "Простите, я не понял.",
        "en": "Sorry, I did not understand.",
    },
    "gave_up": {
        "uk": "Передаю розмову колезі, він допоможе.",
        "ru": "Передаю разговор коллеге, он поможет.",
        "en": "I am passing you to a colleague who will help.",
    },
    "idle": {
        "uk": "Передаю ваше звернення колегам, вони відповідять тут.",
        "ru": "Передаю ваше обращение коллегам, они ответят здесь.",
        "en": "I am passing your request to my colleagues, they will answer here.",
    },
    "bad_phone": {
        "uk": "Не схоже на номер телефону. Напишіть його, будь ласка, так: +380 50 123 45 67.",
        "ru": "Не похоже на номер телефона. Напишите его, пожалуйста, так: +380 50 123 45 67.",
        "en": "That does not look like a phone number. Please write it like this: +380 50 123 45 67.",
    },
    "not_callable": {
        "uk": "На цей номер ми не можемо зателефонувати. Напишіть, будь ласка, інший.",
        "ru": "На этот номер мы не можем позвонить. Напишите, пожалуйста, другой.",
        "en": "We cannot call this number. Please write another one.",
    },
    "bad_email": {
        "uk": "Не схоже на адресу пошти. Напишіть її, будь ласка, так: name@example.com.",
        "ru": "Не похоже на адрес почты. Напишите его, пожалуйста, так: name@example.com.",
        "en": "That does not look like an email address. Please write it like this: name@example.com.",
    },
    "bad_number": {
        "uk": "Напишіть, будь ласка, число.",
        "ru": "Напишите, пожалуйста, число.",
        "en": "Please write a number.",
    },
    "bad_time": {
        "uk": "Не зрозумів час. Напишіть, наприклад, «завтра 15:00».",
        "ru": "Не понял время. Напишите, например, «завтра 15:00».",
        "en": "I did not understand the time. Please write, for example, “tomorrow at 3 pm”.",
    },
    "time_over": {
        "uk": "Цей час уже минув. Оберіть, будь ласка, інший.",
        "ru": "Это время уже прошло. Выберите, пожалуйста, другое.",
        "en": "That time is over. Please choose another one.",
    },
    "time_too_far": {
        "uk": "Так далеко ми не плануємо. Оберіть, будь ласка, час у найближчі три місяці.",
        "ru": "Так далеко мы не планируем. Выберите, пожалуйста, время в ближайшие три месяца.",
        "en": "That is too far ahead. Please choose a time within three months.",
    },
    "time_closed": {
        "uk": "У цей час ми не працюємо. Ось найближчий вільний час:",
        "ru": "В это время мы не работаем. Вот ближайшее свободное время:",
        "en": "We are closed then. These are the nearest times:",
    },
    "callback_phone": {
        "uk": "На який номер вам зателефонувати?",
        "ru": "По какому номеру вам позвонить?",
        "en": "Which number should we call?",
    },
    "callback_time": {
        "uk": "Коли вам зателефонувати? Оберіть час або напишіть свій, наприклад «завтра 15:00».",
        "ru": "Когда вам позвонить? Выберите время или напишите своё, например «завтра 15:00».",
        "en": "When should we call you? Choose a time or write your own, for example “tomorrow at 3 pm”.",
    },
    "callback_booked": {
        "uk": "Домовились: зателефонуємо {call_time} на номер {phone}.",
        "ru": "Договорились: позвоним {call_time} на номер {phone}.",
        "en": "Agreed: we will call {phone} {call_time}.",
    },
    "callback_failed": {
        "uk": "Не вдалося записати дзвінок. Передаю колезі.",
        "ru": "Не удалось записать звонок. Передаю коллеге.",
        "en": "The call could not be booked. I am passing this to a colleague.",
    },
    "time_taken": {
        "uk": "Цей час уже зайнятий. Ось вільний час:",
        "ru": "Это время уже занято. Вот свободное время:",
        "en": "That time is taken. These are free:",
    },
    "calls_none": {
        "uk": "Ми не обіцяли вам дзвінка.",
        "ru": "Мы не обещали вам звонка.",
        "en": "No call is planned for you.",
    },
    "calls_line": {
        "uk": "Ми зателефонуємо {call_time} на номер {phone}.",
        "ru": "Мы позвоним {call_time} на номер {phone}.",
        "en": "We will call {phone} {call_time}.",
    },
    "calls_choose": {
        "uk": "Коли вам зручно? Оберіть інший час:",
        "ru": "Когда вам удобно? Выберите другое время:",
        "en": "When would it suit you? Choose another time:",
    },
    "calls_no_time": {
        "uk": "Вільного часу найближчими днями немає. Напишіть, будь ласка, коли вам зручно.",
        "ru": "Свободного времени в ближайшие дни нет. Напишите, пожалуйста, когда вам удобно.",
        "en": "No time is free in the next days. Please write when it would suit you.",
    },
    "calls_moved": {
        "uk": "Перенесено: зателефонуємо {call_time} на номер {phone}.",
        "ru": "Перенесено: позвоним {call_time} на номер {phone}.",
        "en": "Moved: we will call {phone} {call_time}.",
    },
    "calls_cancelled": {
        "uk": "Дзвінок на номер {phone} скасовано.",
        "ru": "Звонок на номер {phone} отменён.",
        "en": "The call to {phone} is cancelled.",
    },
    "calls_over": {
        "uk": "Цей дзвінок уже відбувся або скасований.",
        "ru": "Этот звонок уже состоялся или отменён.",
        "en": "That call is over or cancelled already.",
    },
    "calls_dialling": {
        "uk": "Ми телефонуємо вам просто зараз.",
        "ru": "Мы звоним вам прямо сейчас.",
        "en": "We are calling you at this moment.",
    },
    "button_move_call": {"uk": "🕘 Інший час", "ru": "🕘 Другое время", "en": "🕘 Another time"},
    "button_cancel_call": {"uk": "✖ Скасувати дзвінок", "ru": "✖ Отменить звонок", "en": "✖ Cancel the call"},
    "button_person": {
        "uk": "👤 Людину, будь ласка",
        "ru": "👤 Человека, пожалуйста",
        "en": "👤 A person, please",
    },
    "button_callback": {"uk": "📞 Передзвоніть мені", "ru": "📞 Перезвоните мне", "en": "📞 Call me back"},
    "button_asap": {"uk": "Якнайшвидше", "ru": "Как можно скорее", "en": "As soon as possible"},
    "button_contact": {
        "uk": "📱 Надіслати мій номер",
        "ru": "📱 Отправить мой номер",
        "en": "📱 Share my number",
    },
    "button_skip": {"uk": "Пропустити", "ru": "Пропустить", "en": "Skip"},
}
LANGUAGE_NAMES: Mapping[str, str] = {"uk": "Українська", "ru": "Русский", "en": "English"}
