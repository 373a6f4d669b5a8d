"""The demo's travel bureau as data: calendars, teams, agents, SLA policies, inboxes, customers' cards.

Inserted once, in one transaction with its mark; a data directory that has it is used as it is. All secrets come from
the installation's own key: they differ between installations and are the same at each start. Must not touch data of a
real installation.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update

import bots
from api.auth.passwords import hash_password
from api.auth.sessions import TOKEN_PREFIX, fingerprint
from crm_core import contacts
from crm_core.clock import DAY
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import IdentityClaim, IdentityKind
from crm_core.schema import agent, agent_skill, api_token, company, inbox, setting, team, team_member
from routing.schema import calendar, sla_policy
from routing.sla import edit
from switchboard.demo.people import (
    BUREAU,
    COMPANIES,
    CUSTOMERS,
    OUR_NUMBER,
    SALES,
    STAFF,
    SUPPORT,
    SUPPORT_ADDRESS,
    Customer,
)

#: the row that says that this database is a demo's, and how far its past is written
MARK = "demo"
FLOW = "travel"
_FLOWS = Path(__file__).parent / "flows"
#: the cards and accounts are older than everything that the past tells of them
OLD_MS = 30 * DAY
_TOKEN_NAME = "demo"  # noqa: S105 - a name, not a secret


class NotADemo(Exception):
    """The database holds somebody's real work."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Everything secret of a demo, made of the installation's key."""

    key: bytes

    def _derive(self, purpose: str) -> bytes:
        return hmac.new(self.key, f"switchboard demo: {purpose}".encode(), hashlib.sha256).digest()

    def password(self, login: str) -> str:
        """Twelve letters and digits in groups that can be typed."""
        text = base64.b32encode(self._derive(f"password of {login}")).decode().lower()
        return "-".join((text[:4], text[4:8], text[8:12]))

    @property
    def api_token(self) -> str:
        return TOKEN_PREFIX + base64.urlsafe_b64encode(self._derive("api token")).decode().rstrip("=")

    def inbox_key(self, name: str) -> str:
        return self._derive(f"key of {name}").hex()[:20]

    def inbox_secret(self, name: str) -> str:
        return base64.urlsafe_b64encode(self._derive(f"secret of {name}")).decode().rstrip("=")

    @property
    def telegram_token(self) -> str:
        return "7000000001:AA" + base64.urlsafe_b64encode(self._derive("bot token")).decode()[:33]


async def ensure(db: Database, secrets: Secrets) -> bool:
    """Insert the bureau unless it is there. Returns whether it was inserted.

    Raises:
        NotADemo: there are accounts in the database that this demo did not make.
    """
    async with db.reading() as conn:
        marked = (await conn.execute(select(setting.c.value).where(setting.c.key == MARK))).scalar()
        others = (await conn.execute(select(func.count()).select_from(agent))).scalar_one()
    if marked is not None:
        await _ensure_flow(db)
        await _ensure_token(db, secrets)
        return False
    if others:
        raise NotADemo(
            "this data directory holds an installation that is not a demo; name another with --data"
        )
    # Hashing is slow on purpose; it must not hold the write lock, and two cores can share it.
    hashes = await asyncio.gather(
        *(asyncio.to_thread(hash_password, secrets.password(who.login)) for who in STAFF)
    )
    async with db.transaction() as uow:
        if (
            await uow.insert_new(setting, {"key": MARK, "value": {"anchor": uow.now, "done": 0}}, key=["key"])
            is None
        ):
            return False
        calendars = await _insert_calendars(uow)
        teams = await _insert_teams(uow, calendars)
        agents = await _insert_agents(uow, teams, dict(zip((s.login for s in STAFF), hashes, strict=True)))
        await _insert_policies(uow, calendars)
        await edit.set_default_calendar(uow, calendars["Office hours"])
        await _insert_inboxes(uow, secrets, teams)
        await _insert_cards(uow, agents)
    await _ensure_flow(db)
    await _ensure_token(db, secrets)
    return True


async def _insert_calendars(uow: UnitOfWork) -> dict[str, int]:
    weekdays = {day: [["09:00", "18:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
    always = {day: [["00:00", "24:00"]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
    specs = {
        "Office hours": {"tz": "Europe/Kyiv", "week": weekdays},
        "Sales hours": {"tz": "Europe/Kyiv", "week": {**weekdays, "sat": [["10:00", "15:00"]]}},
        "Around the clock": {"tz": "Europe/Kyiv", "week": always},
    }
    return {
        name: await uow.insert(calendar, {"name": name, "spec": spec, "version": 1, "updated_at": uow.now})
        for name, spec in specs.items()
    }


async def _insert_teams(uow: UnitOfWork, calendars: Mapping[str, int]) -> dict[str, int]:
    # Travellers get lost at any hour: support never sleeps. Sales has hours, but whoever is online outside them may
    # take a lead at once, so the demo lives at night too.
    plans: dict[str, tuple[str, dict[str, Any]]] = {
        SUPPORT: ("Around the clock", {"default": True, "channels": {"chat": {"max": 4, "timeout_s": 25}}}),
        SALES: ("Sales hours", {"after_hours": "online", "channels": {"async": {"max": 8}}}),
    }
    found = {}
    for name, (hours, settings) in plans.items():
        found[name] = await uow.insert(
            team,
            {
                "name": name,
                "calendar_id": calendars[hours],
                "settings": settings,
                "active": True,
                "created_at": uow.now,
            },
        )
    # Support helps Sales out, never the other way round.
    overflow = {**plans[SALES][1], "overflow": [found[SUPPORT]]}
    await uow.execute(update(team).where(team.c.id == found[SALES]).values(settings=overflow))
    return found


async def _insert_agents(
    uow: UnitOfWork, teams: Mapping[str, int], hashes: Mapping[str, str]
) -> dict[str, int]:
    found = {}
    for who in STAFF:
        agent_id = await uow.insert(
            agent,
            {
                "email": who.email,
                "name": who.name,
                "password_hash": hashes[who.login],
                "role": who.role,
                "language": who.language,
                "extension": who.extension,
                "calendar_id": None,
                "settings": {},
                "active": True,
                "created_at": uow.now - OLD_MS,
            },
        )
        found[who.login] = agent_id
        for name in who.teams:
            await uow.execute(
                team_member.insert().values(team_id=teams[name], agent_id=agent_id, lead=who.leads)
            )
        for skill, level in who.skills.items():
            await uow.execute(agent_skill.insert().values(agent_id=agent_id, skill=skill, level=level))
    return found


def policies(office: int, sales: int) -> list[dict[str, Any]]:
    """The three SLA policies, first match wins; the arguments are calendars' ids."""
    near = [
        {"at": "50%", "actions": ["notify_assignee"]},
        {"at": "75%", "actions": ["notify_assignee", "widen_routing"]},
        {"at": "100%", "actions": ["notify_assignee", "notify_lead", "raise_priority"]},
    ]

    def minutes(first: int, following: int, whole: int, *, business: bool) -> dict[str, Any]:
        return {
            "first_reply": {"minutes": first, "business": business, "steps": near},
            "next_reply": {"minutes": following, "business": business},
            "total_resolution": {"minutes": whole, "business": business},
        }

    return [
        {"policy_key": "vip", "name": "VIP", "conditions": {"vip": True}, "options": {}, "targets": {
            "urgent": minutes(5, 10, 4 * 60, business=False),
            "*": minutes(15, 30, 12 * 60, business=False),
        }},
        # A lead of a form or a missed call is answered by telephone: the note about the call is the reply.
        {"policy_key": "sales-leads", "name": "Sales leads", "conditions": {"kind": "lead"},
         "options": {"calendar_id": sales, "note_counts": ["first_reply", "next_reply"]}, "targets": {
            "urgent": minutes(10, 30, 2 * 9 * 60, business=True),
            "*": minutes(30, 4 * 60, 5 * 9 * 60, business=True),
        }},
        {"policy_key": "standard-support", "name": "Standard support", "conditions": {}, "targets": {
            # Support never closes, so neither do its clocks; what can wait is counted in office hours.
            "urgent": minutes(10, 20, 8 * 60, business=False),
            "high": minutes(20, 40, 24 * 60, business=False),
            "normal": minutes(60, 2 * 60, 72 * 60, business=False),
            "low": minutes(9 * 60, 9 * 60, 5 * 9 * 60, business=True),
        }, "options": {"calendar_id": office}},
    ]  # fmt: skip


async def _insert_policies(uow: UnitOfWork, calendars: Mapping[str, int]) -> None:
    for position, row in enumerate(policies(calendars["Office hours"], calendars["Sales hours"]), 1):
        await uow.insert(
            sla_policy, {**row, "version": 1, "position": position, "current": True, "created_at": uow.now}
        )


async def _insert_inboxes(uow: UnitOfWork, secrets: Secrets, teams: Mapping[str, int]) -> None:
    plans: list[dict[str, Any]] = [
        {"channel": "telegram", "name": "Telegram bot", "team": SUPPORT, "kind": "ticket", "flow": FLOW,
         "config": {"mode": "webhook", "token": secrets.telegram_token}},
        {"channel": "email", "name": "Support mailbox", "team": SUPPORT, "kind": "ticket",
         "address": SUPPORT_ADDRESS, "config": {"address": SUPPORT_ADDRESS, "from_name": BUREAU, "smtp_tls": "none"}},
        {"channel": "telephony", "name": "Sales line", "team": SALES, "kind": "lead", "address": OUR_NUMBER,
         "config": {"vendor": "generic", "number": OUR_NUMBER}},
        {"channel": "webchat", "name": "Chat on the site", "team": SUPPORT, "kind": "ticket", "flow": FLOW,
         "config": {"color": "#0f766e"}},
        {"channel": "form", "name": "Tour request form", "team": SALES, "kind": "lead", "config": {}},
    ]  # fmt: skip
    for plan in plans:
        await uow.insert(inbox, {
            "key": secrets.inbox_key(plan["channel"]), "channel": plan["channel"], "name": plan["name"],
            "secret": secrets.inbox_secret(plan["channel"]), "config": plan["config"], "address": plan.get("address"),
            "team_id": teams[plan["team"]], "default_kind": plan["kind"], "flow_key": plan.get("flow"),
            "region": "UA", "language": "uk", "priority": "normal", "enabled": True, "created_at": uow.now,
        })  # fmt: skip


async def _insert_cards(uow: UnitOfWork, agents: Mapping[str, int]) -> None:
    companies = {
        name: await uow.insert(
            company, {"name": name, "domain": domain, "attributes": {}, "created_at": uow.now}
        )
        for name, domain in COMPANIES
    }
    for who in CUSTOMERS:
        person = await contacts.create_contact(
            uow,
            name=who.name,
            locale=who.locale,
            vip=who.vip,
            timezone="Europe/Kyiv",
            created_at=uow.now - OLD_MS,
            company_id=companies[who.company] if who.company else None,
            manager_id=agents[who.manager] if who.manager else None,
        )
        for claim in claims_of(who):
            person = await contacts.add_identity(uow, person, claim)


def claims_of(who: Customer) -> list[IdentityClaim]:
    """What a customer's card proves, as if he had shown it long ago."""
    claims = []
    if who.telegram_id is not None:
        claims.append(IdentityClaim(IdentityKind.TELEGRAM, str(who.telegram_id), verified=True))
    if who.email is not None:
        claims.append(IdentityClaim(IdentityKind.EMAIL, who.email, verified=True, evidence="contact_share"))
    if who.phone is not None:
        claims.append(IdentityClaim(IdentityKind.PHONE, who.phone, verified=True, evidence="contact_share"))
    return claims


async def _ensure_flow(db: Database) -> None:
    """The bot's dialog, unless somebody has put his own in its place."""
    async with db.transaction() as uow:
        if await bots.get_flow(uow.conn, FLOW) is None:
            await bots.store_flow(
                uow, FLOW, (_FLOWS / f"{FLOW}.yaml").read_text(encoding="utf-8"), actor="system"
            )


async def _ensure_token(db: Database, secrets: Secrets) -> None:
    async with db.transaction() as uow:
        owner = await uow.scalar(
            select(agent.c.id).where(agent.c.role == "admin").order_by(agent.c.id).limit(1)
        )
        if owner is not None:
            await uow.insert_new(
                api_token, {"token_hash": fingerprint(secrets.api_token), "agent_id": owner, "name": _TOKEN_NAME,
                            "created_at": uow.now, "expires_at": None, "last_used_at": None},
                key=["token_hash"])  # fmt: skip


async def connect(db: Database, channel: str, **config: Any) -> dict[str, Any]:
    """Point the demo's inbox of a channel to the stand-in that runs now. Returns the inbox's row."""
    async with db.transaction() as uow:
        row = await uow.row(select(inbox).where(inbox.c.channel == channel).order_by(inbox.c.id).limit(1))
        if row is None:
            raise NotADemo(f"the demo's {channel} inbox is gone")
        after = {**row["config"], **config}
        await uow.execute(update(inbox).where(inbox.c.id == row["id"]).values(config=after))
    return {**row, "config": after}
