"""An office with hours and promises, and the people who keep or break them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from crm_core import inquiries, intake, messages
from crm_core.clock import MINUTE, from_iso
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import Auto, Envelope, IdentityClaim, IdentityKind, Kind, Sender
from crm_core.events import DomainEvent
from crm_core.schema import agent, event, inbox, inquiry, job, setting, team, team_member
from routing.schema import calendar, sla_clock, sla_event, sla_policy
from routing.sla import book as books
from routing.sla.service import LISTENERS

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri")
OFFICE: dict[str, Any] = {"tz": "Europe/Kyiv", "week": {day: [["09:00", "18:00"]] for day in WEEKDAYS}}
#: Monday 2 June 2025, 10:00 in Kyiv
T0 = from_iso("2025-06-02T07:00:00Z")


def at(minutes: float) -> int:
    return T0 + round(minutes * MINUTE)


@dataclass
class Office:
    """One inbox, one team with a lead and an agent, one calendar. Time is moved by `at` of each call (minutes)."""

    db: Database
    clock: Any
    inbox: dict[str, Any]
    team_id: int
    agent_id: int
    lead_id: int
    calendar_id: int
    heard: list[DomainEvent] = field(default_factory=list)
    _n: int = 0

    @classmethod
    async def open(
        cls,
        db: Database,
        clock: Any,
        *,
        channel: str = "email",
        spec: Mapping[str, Any] = OFFICE,
        default: bool = True,
    ) -> "Office":
        clock.set(T0)
        async with db.transaction() as uow:
            calendar_id = await uow.insert(
                calendar, {"name": "office", "spec": dict(spec), "version": 1, "updated_at": uow.now}
            )
            if default:
                await uow.execute(setting.insert().values(key=books.DEFAULT_CALENDAR, value=calendar_id))
            team_id = await uow.insert(
                team,
                {
                    "name": "Support",
                    "calendar_id": None,
                    "settings": {},
                    "active": True,
                    "created_at": uow.now,
                },
            )
            people = []
            for n, lead in ((1, False), (2, True)):
                person = {
                    "email": f"a{n}@example.com",
                    "name": f"Agent {n}",
                    "password_hash": None,
                    "role": "agent",
                    "language": "en",
                    "extension": None,
                    "calendar_id": None,
                    "settings": {},
                    "active": True,
                    "created_at": uow.now,
                }
                people.append(await uow.insert(agent, person))
                await uow.execute(
                    team_member.insert().values(team_id=team_id, agent_id=people[-1], lead=lead)
                )
            box = {
                "key": "k" * 20,
                "channel": channel,
                "name": "Mail",
                "secret": "s",
                "config": {},
                "address": None,
                "team_id": team_id,
                "default_kind": "ticket",
                "flow_key": None,
                "region": "UA",
                "language": "uk",
                "priority": "normal",
                "enabled": True,
                "created_at": uow.now,
            }
            box["id"] = await uow.insert(inbox, box)
        office = cls(db, clock, box, team_id, people[0], people[1], calendar_id)
        db.listeners = {kind: list(functions) for kind, functions in LISTENERS.items()}
        return office

    async def promise(
        self,
        targets: Mapping[str, Any],
        *,
        key: str = "standard",
        version: int = 1,
        position: int = 0,
        priority: str = "*",
        conditions: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> int:
        """A policy: `{"first_reply": 60}` in minutes, or whole targets; no steps unless stated."""
        bodies = {k: v if isinstance(v, dict) else {"minutes": v, "steps": []} for k, v in targets.items()}
        async with self.db.transaction() as uow:
            return await uow.insert(
                sla_policy,
                {
                    "policy_key": key,
                    "version": version,
                    "position": position,
                    "name": key,
                    "conditions": dict(conditions or {}),
                    "targets": {priority: bodies},
                    "options": options,
                    "current": True,
                    "created_at": uow.now,
                },
            )

    def move(self, minutes: float) -> None:
        self.clock.set(at(minutes))

    async def customer(
        self, minutes: float, *, user: str = "anna", auto: Auto = Auto.HUMAN, **more: Any
    ) -> intake.IntakeResult:
        self.move(minutes)
        self._n += 1
        envelope = Envelope(
            **{
                "kind": Kind.MESSAGE,
                "dedupe_key": f"mail:{self._n}",
                "conversation_key": user,
                "sender": Sender(
                    identities=(IdentityClaim(IdentityKind.EMAIL, f"{user}@example.com"),), display_name=user
                ),
                "occurred_at": at(minutes),
                "provider_message_id": f"<{self._n}@x>",
                "text": "Hello",
                "auto": auto,
                **more,
            }
        )
        async with self.db.transaction() as uow:
            return await intake.receive(uow, self.inbox, envelope)

    async def agent(
        self,
        minutes: float,
        inquiry_id: int,
        *,
        internal: bool = False,
        sent: bool = True,
        kind: str = "agent",
    ) -> int:
        """An agent writes; unless `sent` is False the channel accepts it in the same minute."""
        self.move(minutes)
        async with self.db.transaction() as uow:
            row = await uow.row(select(inquiry).where(inquiry.c.id == inquiry_id))
            assert row is not None
            written, _ = await messages.post_message(
                uow,
                conversation_id=row["conversation_id"],
                inquiry_row=row,
                author_kind=kind,
                author_id=self.agent_id if kind == "agent" else None,
                text="Hi",
                internal=internal,
            )
        if sent and not internal:
            await self.delivery(minutes, written["id"], "sent")
        return int(written["id"])

    async def delivery(self, minutes: float, message_id: int, state: str) -> None:
        self.move(minutes)
        async with self.db.transaction() as uow:
            await messages.set_state(uow, message_id, state)

    async def change(self, minutes: float, inquiry_id: int, **changes: Any) -> None:
        self.move(minutes)
        async with self.db.transaction() as uow:
            await inquiries.change(uow, inquiry_id, changes, actor=f"agent:{self.agent_id}")

    async def clocks(self, inquiry_id: int) -> dict[tuple[str, int], Mapping[str, Any]]:
        async with self.db.reading() as conn:
            rows = (
                (await conn.execute(select(sla_clock).where(sla_clock.c.inquiry_id == inquiry_id)))
                .mappings()
                .all()
            )
        return {(row["metric"], row["instance"]): row for row in rows}

    async def the(self, inquiry_id: int, metric: str, instance: int = 1) -> Mapping[str, Any]:
        return (await self.clocks(inquiry_id))[metric, instance]

    async def ledger(self, inquiry_id: int, metric: str, instance: int = 1) -> list[Mapping[str, Any]]:
        clock = await self.the(inquiry_id, metric, instance)
        async with self.db.reading() as conn:
            statement = select(sla_event).where(sla_event.c.clock_id == clock["id"]).order_by(sla_event.c.id)
            return list((await conn.execute(statement)).mappings().all())

    async def told(self, kind: str) -> list[Mapping[str, Any]]:
        async with self.db.reading() as conn:
            return list(
                (await conn.execute(select(event).where(event.c.kind == kind).order_by(event.c.id)))
                .mappings()
                .all()
            )

    async def jobs(self, name: str) -> list[Mapping[str, Any]]:
        async with self.db.reading() as conn:
            return list(
                (await conn.execute(select(job).where(job.c.name == name).order_by(job.c.id)))
                .mappings()
                .all()
            )


async def opened(office: Office, minutes: float = 0, **more: Any) -> int:
    """A customer's first message; the id of the inquiry it opened."""
    result = await office.customer(minutes, **more)
    assert result.inquiry is not None and result.opened
    return int(result.inquiry["id"])


__all__ = ["MINUTE", "OFFICE", "T0", "Office", "UnitOfWork", "at", "opened"]
