"""Who works at the demo's travel bureau and who its customers are: made-up people at reserved domains."""

from dataclasses import dataclass, field

BUREAU = "Mandry Travel"
DOMAIN = "mandry.example"
SUPPORT_ADDRESS = f"support@{DOMAIN}"
#: our number; like all numbers here it has the shape of a real one and belongs to nobody we know
OUR_NUMBER = "+380440000100"
SALES, SUPPORT = "Sales", "Support"


@dataclass(frozen=True, slots=True, kw_only=True)
class Staff:
    """Somebody with a login. `skills` are levels from 1 to 5; `teams` may be empty for an admin."""

    login: str
    name: str
    role: str = "agent"
    teams: tuple[str, ...] = ()
    language: str = "uk"
    extension: str | None = None
    skills: dict[str, int] = field(default_factory=dict)
    leads: bool = False

    @property
    def email(self) -> str:
        return f"{self.login}@{DOMAIN}"


STAFF = (
    Staff(login="admin", name="Andrii Melnyk", role="admin", language="en"),
    Staff(login="iryna", name="Iryna Koval", role="supervisor", teams=(SUPPORT, SALES), extension="100", leads=True,
          skills={"lang:uk": 5, "lang:ru": 5, "lang:en": 4}),
    Staff(login="olena", name="Olena Tkachenko", teams=(SALES,), extension="101",
          skills={"lang:uk": 5, "lang:en": 4, "lang:ru": 3, "product:tours": 5}),
    Staff(login="dmytro", name="Dmytro Bondar", teams=(SALES,), extension="102", language="ru",
          skills={"lang:uk": 4, "lang:ru": 5, "lang:en": 3, "product:tours": 4}),
    Staff(login="maria", name="Maria Lysenko", teams=(SUPPORT,), extension="201",
          skills={"lang:uk": 5, "lang:ru": 4, "lang:en": 3, "product:visa": 5}),
    Staff(login="pavlo", name="Pavlo Hrytsenko", teams=(SUPPORT,), extension="202", language="en",
          skills={"lang:uk": 5, "lang:en": 5, "lang:ru": 2, "product:luggage": 4}),
    Staff(login="sofia", name="Sofia Romanova", teams=(SUPPORT,), extension="203", language="ru",
          skills={"lang:ru": 5, "lang:en": 4, "lang:uk": 3, "product:refund": 5}),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Somebody who writes and calls. What is None he does not use. `manager` is a login, `company` a name."""

    name: str
    locale: str
    telegram_id: int | None = None
    email: str | None = None
    phone: str | None = None
    company: str | None = None
    manager: str | None = None
    vip: bool = False


COMPANIES = (
    ("Dnipro Logistics", "dnipro-logistics.example"),
    ("Baltic Code", "balticcode.example"),
    ("Yarmarok Studio", "yarmarok.example"),
)

OKSANA = Customer(name="Оксана Мельничук", locale="uk", telegram_id=510000001, phone="+380670000001",
                  email="oksana@yarmarok.example", company="Yarmarok Studio", manager="olena")  # fmt: skip
VIKTOR = Customer(name="Виктор Сидоренко", locale="ru", phone="+380670000002", company="Dnipro Logistics",
                  email="v.sidorenko@dnipro-logistics.example", vip=True, manager="maria")  # fmt: skip
EMILY = Customer(
    name="Emily Wilson", locale="en", email="emily.wilson@balticcode.example", company="Baltic Code"
)
IHOR = Customer(name="Ігор Бойко", locale="uk", telegram_id=510000002, phone="+380670000003")
NATALIA = Customer(name="Наталія Гончар", locale="uk", telegram_id=510000003)
JAMES = Customer(name="James Carter", locale="en", email="james.carter@mail.example", phone="+380670000004")
ANNA = Customer(name="Анна Ковалёва", locale="ru", telegram_id=510000004, email="anna.k@mail.example")
PETRO = Customer(name="Петро Шевчук", locale="uk", phone="+380670000005", email="petro.shevchuk@mail.example")

CUSTOMERS = (OKSANA, VIKTOR, EMILY, IHOR, NATALIA, JAMES, ANNA, PETRO)

#: the person whom the printed Telegram command plays
VISITOR = Customer(name="Newcomer", locale="en", telegram_id=510000900)
