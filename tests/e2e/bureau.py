"""The travel bureau in a real installation: its people and inboxes in the database, its providers around it.

Owns the order in which things begin: organisation, providers, processes, webhook. What is played on it is the tests'
business.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import delete, select, update

from channels import close_channels, get_channel
from channels.config import inbox_config
from channels.contract import ChannelContext
from crm_core.clock import FileClock
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.infra.local import LocalHints
from crm_core.schema import agent, agent_skill, inbox
from switchboard.demo import organisation
from switchboard.demo.organisation import Secrets
from switchboard.demo.people import DOMAIN
from tests.e2e.installation import Installation
from tests.fakes.pbx import CallScript, FakePbx, generic_pbx
from tests.fakes.smtp_relay import SmtpRelay
from tests.fakes.telegram_api import FakeTelegram

#: what Installation gives its processes
SECRETS = Secrets(b"k" * 40)
CHANNELS = ("telegram", "email", "telephony", "webchat", "form")


@dataclass
class Bureau:
    """Everything a test plays with. `db` is for what has no public surface: set-up and a few looks behind it."""

    place: Installation
    db: Database
    clock: FileClock
    telegram: FakeTelegram
    relay: SmtpRelay
    pbx: FakePbx
    http: aiohttp.ClientSession
    inboxes: dict[str, dict[str, Any]] = field(default_factory=dict)
    _turn: int = 0

    @property
    def url(self) -> str:
        """The address of a web process: of another one each time, where there are several."""
        self._turn += 1
        return self.place.urls[self._turn % len(self.place.urls)]

    def hook(self, channel: str) -> str:
        return f"{self.url}/hooks/{self.inboxes[channel]['key']}"

    def mails(self) -> list[EmailMessage]:
        """What the product has sent by mail, read."""
        return [message_from_bytes(m.data, policy=policy.default) for m in self.relay.mails]

    def now(self) -> int:
        return self.clock.now_ms()

    def set_clock(self, ms: int) -> None:
        """Move everybody's time forward to an instant."""
        ahead = ms - self.now()
        assert ahead > 0, f"time does not go back ({ahead} ms)"
        self.place.advance(ahead)


Prepare = Callable[[UnitOfWork], Any]


@asynccontextmanager
async def bureau(
    directory: Path,
    database_url: str,
    redis_url: str | None,
    *,
    begins_at: int | None = None,
    bot: bool = False,
    prepare: Prepare | None = None,
    **settings: str,
) -> AsyncIterator[Bureau]:
    """A bureau at work, on a migrated empty database; ended at the end of the block.

    Args:
        begins_at: the instant (ms) at which its clock begins; it goes on from there.
        bot: whether the dialog greets customers before people do.
        prepare: changes the organisation before the processes start.
        settings: SWITCHBOARD_* variables for the processes.
    """
    directory.mkdir(parents=True, exist_ok=True)
    place = Installation(
        directory=directory, database_url=database_url, redis_url=redis_url, settings=settings
    )
    clock = FileClock(place.clock_file)
    if begins_at is not None:
        place.advance(begins_at - clock.now_ms())
    db = Database(database_url, clock=clock, hints=LocalHints(), pool_size=2)
    await db.start()
    try:
        await organisation.ensure(db, SECRETS)
        async with db.transaction() as uow:
            if not bot:
                await uow.execute(update(inbox).values(flow_key=None))
            if prepare is not None:
                await prepare(uow)
        async with _around(place, db, clock) as made:
            try:
                await place.start()
                await _tell_addresses(made)
                yield made
            finally:
                place.stop()
    finally:
        await db.close()
        await close_channels()


@asynccontextmanager
async def _around(place: Installation, db: Database, clock: FileClock) -> AsyncIterator[Bureau]:
    """The providers, and the inboxes that point to them."""
    async with (
        FakeTelegram(token=SECRETS.telegram_token, clock=clock, time_scale=0.05) as telegram,
        SmtpRelay() as relay,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http,
        generic_pbx(
            SECRETS.inbox_secret("telephony"),
            clock=clock,
            auto_play=False,
            script=CallScript(ring_s=2, talk_s=20),
        ) as pbx,
    ):
        made = Bureau(place, db, clock, telegram, relay, pbx, http)
        connect = organisation.connect
        await connect(db, "telegram", api_base=telegram.base_url)
        await connect(db, "email", smtp_host="127.0.0.1", smtp_port=relay.port)
        await connect(db, "telephony", originate_url=f"{pbx.base_url}/originate")
        async with db.reading() as conn:
            for row in (await conn.execute(select(inbox))).mappings():
                made.inboxes[row["channel"]] = dict(row)
        yield made


async def _tell_addresses(made: Bureau) -> None:
    """Register the webhook as the product does, and give the PBX its address."""
    ctx = ChannelContext(http=made.http, clock=made.clock, public_url=made.place.urls[0])
    await get_channel("telegram").set_up(inbox_config(made.inboxes["telegram"]), ctx)
    made.pbx.hook_url = f"{made.place.urls[-1]}/hooks/{made.inboxes['telephony']['key']}"


async def forget_skill(uow: UnitOfWork, login: str, skill: str) -> None:
    """Take a skill from one of the bureau's people."""
    who = select(agent.c.id).where(agent.c.email == f"{login}@{DOMAIN}").scalar_subquery()
    await uow.execute(delete(agent_skill).where(agent_skill.c.agent_id == who, agent_skill.c.skill == skill))
