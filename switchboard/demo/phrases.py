"""What the demo's customers and agents say, in Ukrainian, Russian and English. Text only."""

from dataclasses import dataclass

LANGUAGES = ("uk", "ru", "en")


@dataclass(frozen=True, slots=True)
class Topic:
    """A matter people come with; each text by language. `sells` topics are for the sales team."""

    subject: dict[str, str]
    opening: dict[str, str]
    more: dict[str, str]
    reply: dict[str, str]
    note: str
    sells: bool = False


TOPICS = (
    Topic(
        {"uk": "Віза до Португалії", "ru": "Виза в Португалию", "en": "Visa for Portugal"},
        {"uk": "Доброго дня! Чи потрібна віза до Португалії на два тижні?",
         "ru": "Здравствуйте! Нужна ли виза в Португалию на две недели?",
         "en": "Hello! Do I need a visa for two weeks in Portugal?"},
        {"uk": "Паспорт біометричний, а в дитини старого зразка.",
         "ru": "Паспорт биометрический, а у ребёнка старого образца.",
         "en": "My passport is biometric, my child's is an old one."},
        {"uk": "З біометричним паспортом віза не потрібна до 90 днів. Дитячий варто замінити.",
         "ru": "С биометрическим паспортом виза не нужна до 90 дней. Ребёнку паспорт лучше заменить, подскажу как.",
         "en": "With a biometric passport you need no visa for up to 90 days. Better renew the child's."},
        "Checked the rules on the consulate's page.",
    ),
    Topic(
        {"uk": "Повернення коштів", "ru": "Возврат денег", "en": "Refund"},
        {"uk": "Скасували рейс до Риги. Коли повернете гроші?",
         "ru": "Отменили рейс в Ригу. Когда вернёте деньги?",
         "en": "Our flight to Riga was cancelled. When do we get the money back?"},
        {"uk": "Номер бронювання MT-20617, платили карткою.",
         "ru": "Номер брони MT-20617, платили картой.",
         "en": "The booking is MT-20617, paid by card."},
        {"uk": "Подала запит на повне повернення, це до семи робочих днів. Напишу, щойно банк підтвердить.",
         "ru": "Подала запрос на полный возврат, это до семи рабочих дней. Напишу, как только банк подтвердит.",
         "en": "I have asked for a full refund; it takes up to seven working days. I will write when it is confirmed."},
        "Refund requested from the airline, expected within a week.",
    ),
    Topic(
        {"uk": "Загублена валіза", "ru": "Потерян чемодан", "en": "Lost suitcase"},
        {"uk": "Прилетіли до Барселони, а валізи немає!",
         "ru": "Прилетели в Барселону, а чемодана нет!",
         "en": "We landed in Barcelona and my suitcase is not here!"},
        {"uk": "Акт склали, номер BCNPS40112.", "ru": "Акт составили, номер BCNPS40112.",
         "en": "We filed a report, its number is BCNPS40112."},
        {"uk": "Бачу ваш акт у системі. Зазвичай привозять за добу-дві. Збережіть чеки за покупки.",
         "ru": "Вижу ваш акт. Авиакомпания ищет, обычно привозят за день-два. Сохраните чеки на покупки.",
         "en": "I see your report. The airline usually delivers within two days. Please keep your receipts."},
        "Called the airline's desk, reference confirmed.",
    ),
    Topic(
        {"uk": "Зміна дати вильоту", "ru": "Перенос даты вылета", "en": "Changing the flight date"},
        {"uk": "Чи можна перенести виліт з п'ятниці на неділю?",
         "ru": "Можно ли перенести вылет с пятницы на воскресенье?",
         "en": "Can we move our flight from Friday to Sunday?"},
        {"uk": "Нас троє, бронювання MT-20702.", "ru": "Нас трое, бронь MT-20702.",
         "en": "We are three, booking MT-20702."},
        {"uk": "Є місця в неділю о 9:40, доплата 1 200 грн за всіх. Переносимо?",
         "ru": "Есть места в воскресенье в 9:40, доплата 1 200 грн за всех. Переносим?",
         "en": "There are seats on Sunday at 9:40 for an extra EUR 28 in all. Shall I change it?"},
        "Seats held until 18:00.",
    ),
    Topic(
        {"uk": "Тур до моря для родини", "ru": "Тур на море для семьи", "en": "A family trip to the sea"},
        {"uk": "Шукаємо тур до моря на чотирьох, кінець червня. Що порадите?",
         "ru": "Ищем тур на море на четверых, конец июня. Что посоветуете?",
         "en": "We look for a week at the sea for four at the end of June. What would you suggest?"},
        {"uk": "Бюджет до 90 тисяч, потрібен дитячий клуб.", "ru": "Бюджет до 90 тысяч, нужен детский клуб.",
         "en": "Up to EUR 2,000, with a children's club please."},
        {"uk": "Підібрала три готелі в Кемері з дитячим клубом, надсилаю. Який більше до душі?",
         "ru": "Подобрала три отеля в Кемере с детским клубом. Какой больше нравится?",
         "en": "I have three hotels in Kemer with a children's club for you. Which one do you like?"},
        "Three hotels sent; decides by Friday.", sells=True,
    ),
    Topic(
        {"uk": "Весільна подорож", "ru": "Свадебное путешествие", "en": "Honeymoon"},
        {"uk": "Мальдіви чи Балі в листопаді, двоє. Передзвоніть, будь ласка.",
         "ru": "Мальдивы или Бали в ноябре, двое. Перезвоните, пожалуйста.",
         "en": "The Maldives or Bali in November, two people. Please call me back."},
        {"uk": "Бюджет близько 4000 доларів.", "ru": "Бюджет около 4000 долларов.", "en": "Around 4,000 dollars."},
        {"uk": "Із радістю! Балі в листопаді дешевше, зберу два варіанти до вечора.",
         "ru": "С радостью! Бали в ноябре дешевле, соберу два варианта к вечеру.",
         "en": "With pleasure! Bali is cheaper in November; you will have two offers by the evening."},
        "Spoke by phone: leaning towards Bali.", sells=True,
    ),
)  # fmt: skip

A_PERSON = {"uk": "Людину, будь ласка", "ru": "Человека, пожалуйста", "en": "A person, please"}
THANKS = {"uk": "Дуже дякую!", "ru": "Большое спасибо!", "en": "Thank you very much!"}
GREETING = {"uk": "Вітаю!", "ru": "Здравствуйте!", "en": "Hello!"}
HOW = {"uk": "Чим можу допомогти?", "ru": "Чем могу помочь?", "en": "How can I help you?"}
WELCOME = {
    "uk": "Прошу, гарної подорожі!",
    "ru": "Пожалуйста, хорошей поездки!",
    "en": "You are welcome, have a good trip!",
}
SIGN = {"uk": "З повагою", "ru": "С уважением", "en": "Kind regards"}

FIRST_NAMES = {
    "uk": ("Марія", "Остап", "Катерина", "Богдан", "Софія", "Тарас", "Юлія", "Роман", "Лідія", "Максим"),
    "ru": ("Елена", "Алексей", "Мария", "Павел", "Ольга", "Игорь", "Светлана", "Антон", "Ирина", "Денис"),
    "en": ("Sarah", "Oliver", "Grace", "Thomas", "Chloe", "Henry", "Lucy", "George", "Hannah", "Daniel"),
}
LAST_NAMES = {
    "uk": ("Кравчук", "Поліщук", "Савченко", "Мороз", "Литвин", "Гнатюк", "Олійник", "Ткач"),
    "ru": ("Лебедева", "Волков", "Зайцева", "Крылов", "Белова", "Фомин", "Орлова", "Громов"),
    "en": ("Baker", "Evans", "Hughes", "Reed", "Foster", "Price", "Marsh", "Doyle"),
}
