"""The demo's customers: one small act at a time, on every channel, through the same edges as real ones.

A call of `act` is one thing a customer does: a new request, or going on with an earlier one. Chances come of one
seeded generator. Holds a bounded number of open threads; talks to the loopback interface only.
"""

import asyncio
import heapq
import itertools
import random
import smtplib
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import make_msgid
from typing import Any

import aiohttp

from switchboard.demo import phrases
from switchboard.demo.chat_visitor import ChatVisitor
from switchboard.demo.fake_pbx import CallScript
from switchboard.demo.mail_relay import Relayed
from switchboard.demo.people import BUREAU, CUSTOMERS, OUR_NUMBER, SUPPORT_ADDRESS, Customer
from switchboard.demo.standins import StandIns, known_person
from switchboard.demo.trials import Addresses

#: how often each channel is chosen, in parts of a hundred
SHARES = {"telegram": 34, "email": 22, "telephony": 16, "webchat": 16, "form": 12}
#: what the product takes from one address a minute; the demo stays below
PER_MINUTE = {"form": 15, "webchat": 20}
MAX_OPEN_CHATS = 12
MAX_CALLS = 8
MAX_REPLIES = 4
_GOES_ON = 0.45
_RETURNS = 0.4
#: who begins with the bot's menu
_STARTS = 0.4
_LATER_S = (4.0, 12.0)

Act = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class Crowd:
    """Everybody who wants something of the bureau."""

    at: Addresses
    parts: StandIns
    http: aiohttp.ClientSession
    dice: random.Random
    tag: str
    sent: Counter[str] = field(default_factory=Counter)
    _first: list[str] = field(default_factory=list)
    _later: list[tuple[float, int, Act]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)
    _recent: dict[str, deque[float]] = field(default_factory=lambda: {name: deque() for name in PER_MINUTE})
    _chats: list[ChatVisitor] = field(default_factory=list)
    _calls: set[asyncio.Task[Any]] = field(default_factory=set)
    _mail_topics: dict[str, tuple[Customer, phrases.Topic]] = field(default_factory=dict)

    def start(self) -> None:
        # However short the demo is, every channel is seen once.
        self._first = self.dice.sample(list(SHARES), len(SHARES))
        self.parts.relay.on_mail.append(self._mailed)

    async def close(self) -> None:
        self.parts.relay.on_mail.remove(self._mailed)
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        for chat in self._chats:
            await chat.close()

    async def act(self) -> None:
        """One customer does one thing."""
        if not self._first and self._later and self._later[0][0] <= self._now():
            await heapq.heappop(self._later)[2]()
            return
        channel = self._first.pop() if self._first else self._channel()
        topic = self.dice.choice(
            [t for t in phrases.TOPICS if t.sells or channel not in ("telephony", "form")]
        )
        await getattr(self, f"_by_{channel}")(topic)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _then(self, act: Act) -> None:
        heapq.heappush(self._later, (self._now() + self.dice.uniform(*_LATER_S), next(self._order), act))

    def _channel(self) -> str:
        names = [name for name in SHARES if self._may(name)]
        return self.dice.choices(names, [SHARES[name] for name in names])[0]

    def _may(self, channel: str) -> bool:
        if channel == "telephony":
            return len(self._calls) < MAX_CALLS
        recent = self._recent.get(channel)
        if recent is None:
            return True
        while recent and recent[0] < self._now() - 60:
            recent.popleft()
        return len(recent) < PER_MINUTE[channel]

    def _somebody(self, uses: str) -> Customer:
        """A customer who has that address: one of the bureau's, or somebody new."""
        known = [who for who in CUSTOMERS if getattr(who, uses) is not None]
        if self.dice.random() < _RETURNS:
            return self.dice.choice(known)
        language = self.dice.choice(phrases.LANGUAGES)
        first = self.dice.choice(phrases.FIRST_NAMES[language])
        last = self.dice.choice(phrases.LAST_NAMES[language])
        number = phrases.FIRST_NAMES[language].index(first) * 10 + phrases.LAST_NAMES[language].index(last)
        number += phrases.LANGUAGES.index(language) * 100 + 1000
        return Customer(
            name=f"{first} {last}",
            locale=language,
            telegram_id=510_100_000 + number,
            phone=f"+38067{number:07d}",
            email=f"customer{number}@mail.example",
        )

    # -- Telegram ----------------------------------------------------------------------------------------------
    async def _by_telegram(self, topic: phrases.Topic) -> None:
        who = self._somebody("telegram_id")
        person = known_person(self.parts.telegram, who.telegram_id or 0, who.name, who.locale)
        if self.dice.random() < _STARTS:
            await person.start()
        else:
            await person.send_text(topic.opening[who.locale])
        self.sent["telegram"] += 1
        self._then(lambda: self._telegram_goes_on(person, who, topic, 1))

    async def _telegram_goes_on(self, person: Any, who: Customer, topic: phrases.Topic, step: int) -> None:
        newest = person.received[-1] if person.received else None
        asks_phone = newest is not None and "request_contact" in str(newest.markup)
        pressable = (
            [b["callback_data"] for row in newest.inline_buttons for b in row if b.get("callback_data")]
            if newest is not None
            else []
        )
        if asks_phone and who.phone is not None:
            await person.send_contact(who.phone)
        elif pressable and self.dice.random() < 0.5:
            await person.press(self.dice.choice(pressable))
        elif pressable:
            await person.send_text(phrases.A_PERSON[who.locale])
        else:
            await person.send_text((topic.more if step == 1 else phrases.THANKS)[who.locale])
        self.sent["telegram"] += 1
        if step < MAX_REPLIES and (pressable or self.dice.random() < _GOES_ON):
            self._then(lambda: self._telegram_goes_on(person, who, topic, step + 1))

    # -- email -------------------------------------------------------------------------------------------------
    async def _by_email(self, topic: phrases.Topic) -> None:
        who = self._somebody("email")
        self._mail_topics[who.email or ""] = (who, topic)
        text = f"{topic.opening[who.locale]}\n{topic.more[who.locale]}\n\n{phrases.SIGN[who.locale]},\n{who.name}"
        await self._mail(who, topic.subject[who.locale], text, to=SUPPORT_ADDRESS)

    def _mailed(self, mail: Relayed) -> None:
        """An answer arrived; some people write back."""
        known = self._mail_topics.pop(mail.recipients[0] if mail.recipients else "", None)
        letter = mail.parsed
        if known is None or letter.get("Auto-Submitted", "no") != "no" or self.dice.random() > _GOES_ON:
            return
        who, to = known[0], str(letter.get("Reply-To") or letter.get("From"))
        answered = str(letter.get("Message-ID"))
        references = f"{letter.get('References', '')} {answered}".split()
        subject = f"Re: {str(letter.get('Subject', '')).removeprefix('Re: ')}"
        self._then(
            lambda: self._mail(
                who,
                subject,
                f"{phrases.THANKS[who.locale]}\n\n{who.name}",
                to=to,
                headers={"In-Reply-To": answered, "References": " ".join(references)},
            )
        )

    async def _mail(
        self, who: Customer, subject: str, text: str, *, to: str, headers: dict[str, str] | None = None
    ) -> None:
        letter = EmailMessage()
        letter["From"] = f"{who.name} <{who.email}>"
        letter["To"] = to
        letter["Subject"] = subject
        letter["Message-ID"] = make_msgid(domain=(who.email or "@mail.example").rpartition("@")[2])
        for name, value in (headers or {}).items():
            letter[name] = value
        letter.set_content(text)
        lmtp = self.dice.random() < 0.5
        await asyncio.to_thread(self._post_mail, letter, who.email or "", lmtp=lmtp)
        self.sent["email"] += 1

    def _post_mail(self, letter: EmailMessage, sender: str, *, lmtp: bool) -> None:
        server = (
            smtplib.LMTP("127.0.0.1", self.at.lmtp_port)
            if lmtp
            else smtplib.SMTP("127.0.0.1", self.at.smtp_port, timeout=10)
        )
        with server:
            server.send_message(letter, from_addr=sender)

    # -- calls -------------------------------------------------------------------------------------------------
    async def _by_telephony(self, _topic: phrases.Topic) -> None:
        who = self._somebody("phone")
        answered = self.dice.random() < 0.5
        script = CallScript(
            asks=True,
            agent_answers=answered,
            hangs_up=not answered and self.dice.random() < 0.5,
            ring_s=2,
            talk_s=self.dice.randint(3, 8),
        )
        call = asyncio.create_task(self.parts.pbx.inbound_call(who.phone or "", OUR_NUMBER, script))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        self.sent["telephony"] += 1

    # -- web chat ----------------------------------------------------------------------------------------------
    async def _by_webchat(self, topic: phrases.Topic) -> None:
        who = self._somebody("email")
        chat = ChatVisitor(
            self.http, self.at.url, self.at.inboxes["webchat"]["key"], who, f"{self.tag}-{next(self._order)}"
        )
        self._recent["webchat"].append(self._now())
        if not await chat.open():
            return
        self._chats.append(chat)
        if len(self._chats) > MAX_OPEN_CHATS:
            await self._chats.pop(0).close()
        if await chat.say(topic.opening[who.locale]):
            self.sent["webchat"] += 1
            self._then(lambda: self._chat_goes_on(chat, topic, 1))

    async def _chat_goes_on(self, chat: ChatVisitor, topic: phrases.Topic, step: int) -> None:
        locale, buttons = chat.who.locale, chat.buttons
        if buttons and self.dice.random() < 0.5:
            done = await chat.press(self.dice.choice(buttons))
        elif buttons:
            done = await chat.say(phrases.A_PERSON[locale])
        else:
            done = await chat.say((topic.more if step == 1 else phrases.THANKS)[locale])
        if done:
            self.sent["webchat"] += 1
        if done and step < MAX_REPLIES and (buttons or self.dice.random() < _GOES_ON):
            self._then(lambda: self._chat_goes_on(chat, topic, step + 1))

    # -- form --------------------------------------------------------------------------------------------------
    async def _by_form(self, topic: phrases.Topic) -> None:
        who = self._somebody("phone")
        self._recent["form"].append(self._now())
        fields = {
            "name": who.name, "phone": who.phone, "email": who.email, "locale": who.locale,
            "subject": topic.subject[who.locale], "message": f"{topic.opening[who.locale]} {topic.more[who.locale]}",
            "utm_source": self.dice.choice(["google", "instagram", "newsletter", "friends"]),
            "page": f"https://{BUREAU.split()[0].lower()}.example/tours",
            "submission_id": f"{self.tag}-{next(self._order)}",
        }  # fmt: skip
        if self.dice.random() < 0.25:
            fields["callback"] = "yes"
        filled = {name: value for name, value in fields.items() if value}
        async with self.http.post(self.at.hook("form"), json=filled) as answer:
            if answer.status != 429:
                answer.raise_for_status()
                self.sent["form"] += 1
