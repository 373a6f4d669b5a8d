"""The demo's providers on this machine: a Bot API server, a mail relay, a PBX. Started together, before the product.

Owns their life and telling the product's inboxes where they are now.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from channels import get_channel
from channels.config import inbox_config
from channels.contract import ChannelContext
from crm_core.clock import SECOND, Clock
from crm_core.db.engine import Database
from crm_core.schema import contact, identity
from crm_core.services import Services
from switchboard.demo.fake_pbx import CallScript, Delivery, FakePbx, generic_pbx
from switchboard.demo.fake_telegram import FakeTelegram
from switchboard.demo.mail_relay import MailRelay
from switchboard.demo.organisation import Secrets, connect
from switchboard.demo.people import CUSTOMERS, VISITOR

#: numbers that must grow over restarts count from here (2026-01-01), so that they stay small
_EPOCH_MS = 1_767_225_600_000


@dataclass(frozen=True, slots=True)
class StandIns:
    """What runs, and the demo's inboxes by channel, connected to it."""

    telegram: FakeTelegram
    relay: MailRelay
    pbx: FakePbx
    inboxes: dict[str, dict[str, Any]]


@asynccontextmanager
async def stand_ins(db: Database, secrets: Secrets, clock: Clock, url: str) -> AsyncIterator[StandIns]:
    """Start them for a product that will answer at `url`."""
    seconds = max(0, clock.now_ms() - _EPOCH_MS) // SECOND
    telegram = FakeTelegram(
        token=secrets.telegram_token,
        username="mandry_travel_bot",
        clock=clock,
        # Twenty a second is more than the demo ever sends, so restarts never meet used numbers.
        first_update_id=1 + seconds * 20,
        first_message_id=100_000 + seconds,
    )
    async with telegram, MailRelay() as relay:
        for who in (*CUSTOMERS, VISITOR):
            if who.telegram_id is not None:
                known_person(telegram, who.telegram_id, who.name, who.locale)
        for telegram_id, name, locale in await _earlier(db):
            known_person(telegram, telegram_id, name, locale)
        inboxes = {
            "telegram": await connect(db, "telegram", api_base=telegram.base_url),
            "email": await connect(db, "email", smtp_host="127.0.0.1", smtp_port=relay.port),
            "webchat": await connect(db, "webchat"),
            "form": await connect(db, "form"),
            "telephony": await connect(db, "telephony"),
        }
        phone = inboxes["telephony"]
        pbx = generic_pbx(
            phone["secret"],
            hook_url=f"{url}/hooks/{phone['key']}",
            clock=clock,
            delivery=Delivery(pace_s=0.5, seed=seconds),
            script=CallScript(ring_s=2, talk_s=20),
        )
        async with pbx:
            inboxes["telephony"] = await connect(
                db,
                "telephony",
                originate_url=f"{pbx.base_url}/originate",
                connect_url=f"{pbx.base_url}/connect",
            )
            yield StandIns(telegram, relay, pbx, inboxes)


async def _earlier(db: Database) -> list[tuple[int, str, str]]:
    """(id, name, locale) of everybody who wrote to the bot in earlier runs: it may go on writing to them."""
    async with db.reading() as conn:
        rows = await conn.execute(
            select(identity.c.value, contact.c.name, contact.c.locale)
            .join(contact, contact.c.id == identity.c.contact_id)
            .where(identity.c.kind == "telegram")
        )
        return [(int(value), name or "Somebody", locale or "en") for value, name, locale in rows]


def known_person(telegram: FakeTelegram, telegram_id: int, name: str, locale: str) -> Any:
    """A Telegram account that has talked with the bot before."""
    first, _, last = name.partition(" ")
    person = telegram.user(telegram_id, first, language_code=locale, **({"last_name": last} if last else {}))
    person.started = True
    return person


async def set_webhook(services: Services, inbox: dict[str, Any]) -> None:
    """Tell the local Bot API where to post updates. Raises ChannelErrors."""
    ctx = ChannelContext(http=services.http, clock=services.clock, public_url=services.settings.public_url)
    await get_channel("telegram").set_up(inbox_config(inbox), ctx)
