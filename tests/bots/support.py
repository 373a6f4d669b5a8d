"""A travel bureau with hours, one inbox per chat channel, and customers who write through the intake."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

import bots
from bots.schema import dialog
from crm_core import intake
from crm_core.db.engine import Database
from crm_core.envelope import Envelope, IdentityClaim, IdentityKind, Kind, Sender
from crm_core.events import DomainEvent
from crm_core.schema import inbox, inquiry, message, team
from routing.schema import calendar, callback

KYIV = ZoneInfo("Europe/Kyiv")
TRAVEL = Path("switchboard/demo/flows/travel.yaml").read_text()
WEEK = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}


def kyiv(day: int, hour: int, minute: int = 0) -> int:
    """June 2025 in Kyiv; the 2nd is a Monday."""
    return round(datetime(2025, 6, day, hour, minute, tzinfo=KYIV).timestamp() * 1000)


@dataclass
class Bureau:
    db: Database
    boxes: dict[str, dict[str, Any]]
    teams: dict[str, int]
    events: list[DomainEvent] = field(default_factory=list)


async def a_bureau(
    db: Database,
    *,
    flow: str = TRAVEL,
    flow_key: str = "travel",
    stored: bool = True,
    default_kind: str = "ticket",
) -> Bureau:
    events: list[DomainEvent] = []

    async def hears(_uow: Any, event: DomainEvent) -> None:
        events.append(event)

    db.listeners = {kind: [*functions] for kind, functions in bots.LISTENERS.items()}
    for kind in ("inquiry.handed_off", "alarm.raised", "callback.booked", "inquiry.updated"):
        db.listeners.setdefault(kind, []).append(hears)  # type: ignore[attr-defined]
    async with db.transaction() as uow:
        calendar_id = await uow.insert(
            calendar,
            {
                "name": "Office",
                "spec": {"tz": "Europe/Kyiv", "week": WEEK},
                "version": 1,
                "updated_at": uow.now,
            },
        )
        teams = {
            name: await uow.insert(
                team,
                {
                    "name": name,
                    "calendar_id": calendar_id,
                    "settings": {},
                    "active": True,
                    "created_at": uow.now,
                },
            )
            for name in ("Sales", "Support")
        }
        boxes = {}
        for channel in ("telegram", "webchat"):
            values: dict[str, Any] = {
                "key": channel * 2,
                "channel": channel,
                "name": channel,
                "secret": "s",
                "config": {},
                "address": None,
                "team_id": teams["Support"],
                "default_kind": default_kind,
                "flow_key": flow_key,
                "region": "UA",
                "language": "uk",
                "priority": "normal",
                "enabled": True,
                "created_at": uow.now,
            }
            boxes[channel] = {**values, "id": await uow.insert(inbox, values)}
        if stored:
            await bots.store_flow(uow, flow_key, flow)
    return Bureau(db, boxes, teams, events)


@dataclass
class Customer:
    """Somebody at a chat. Every method is one envelope through the intake, in a transaction of its own."""

    bureau: Bureau
    channel: str
    locale: str | None = "uk"
    name: str | None = "Ірина"
    who: str = "5"
    n: int = 0
    last: intake.IntakeResult | None = None
    conversation_id: int = 0

    def sender(self, *claims: IdentityClaim) -> Sender:
        own = (
            IdentityClaim(IdentityKind.TELEGRAM, self.who, verified=True)
            if self.channel == "telegram"
            else IdentityClaim(IdentityKind.VISITOR, self.who, verified=True, account="webchat")
        )
        return Sender(identities=(own, *claims), display_name=self.name, locale=self.locale)

    async def take(self, **more: Any) -> intake.IntakeResult:
        self.n += 1
        envelope = Envelope(
            **{
                "kind": Kind.MESSAGE,
                "dedupe_key": f"u:{self.n}",
                "conversation_key": self.who,
                "sender": self.sender(),
                "occurred_at": self.bureau.db.clock.now_ms(),
                "provider_message_id": f"{self.who}:{self.n}",
                **more,
            }
        )
        async with self.bureau.db.transaction() as uow:
            self.last = await intake.receive(uow, self.bureau.boxes[self.channel], envelope, held_by_bot=True)
        if self.last.conversation:
            self.conversation_id = self.last.conversation["id"]
        return self.last

    async def writes(self, text: str, **more: Any) -> None:
        await self.take(
            text=text, data={"command": text[1:].split(maxsplit=1)[0]} if text.startswith("/") else {}, **more
        )

    async def presses(self, label_part: str) -> None:
        """Press the button whose label holds this text, on the newest message that has one."""
        for said in reversed(await self.heard()):
            for row in said["meta"].get("buttons", []):
                for button in row:
                    if label_part in button["label"]:
                        await self.presses_value(button["value"], button["label"])
                        return
        raise AssertionError(f"no button with {label_part!r}")

    async def presses_value(self, value: str, label: str = "", press_id: str | None = None) -> None:
        data = {"value": value}
        if self.channel == "telegram":
            data["callback_query_id"] = press_id or f"q{self.n}"
        more = {"provider_message_id": None} if self.channel == "telegram" else {}
        await self.take(kind=Kind.ACTION, text=label, data=data, **more)

    async def shares(self, e164: str) -> None:
        """Telegram's own contact card, as `channels.telegram.parse` makes it."""
        claim = IdentityClaim(IdentityKind.PHONE, e164, verified=True, evidence="contact_share")
        await self.take(
            kind=Kind.IDENTITY,
            text=e164,
            sender=self.sender(claim),
            data={"contact": {"phone": e164, "e164": e164, "user_id": self.who, "name": ""}},
        )

    async def heard(self) -> list[dict[str, Any]]:
        """What the bot and people said to him, oldest first."""
        async with self.bureau.db.reading() as conn:
            rows = await conn.execute(
                select(message)
                .where(message.c.conversation_id == self.conversation_id, message.c.direction == "out")
                .order_by(message.c.seq)
            )
            return [dict(row) for row in rows.mappings()]

    async def last_words(self) -> str:
        return str((await self.heard())[-1]["text"])

    async def labels(self) -> list[str]:
        return [b["label"] for row in (await self.heard())[-1]["meta"].get("buttons", []) for b in row]

    async def inquiry(self) -> dict[str, Any]:
        async with self.bureau.db.reading() as conn:
            row = (
                (
                    await conn.execute(
                        select(inquiry)
                        .where(inquiry.c.conversation_id == self.conversation_id)
                        .order_by(inquiry.c.id.desc())
                    )
                )
                .mappings()
                .first()
            )
        assert row
        return dict(row)

    async def dialog(self) -> dict[str, Any]:
        async with self.bureau.db.reading() as conn:
            row = (await conn.execute(select(dialog).order_by(dialog.c.id.desc()))).mappings().first()
        assert row
        return dict(row)


async def callbacks_of(db: Database) -> list[dict[str, Any]]:
    async with db.reading() as conn:
        return [dict(r) for r in (await conn.execute(select(callback).order_by(callback.c.id))).mappings()]
