"""Notices by mail: one for a minute, in the reader's language, to those who want it."""

from collections.abc import AsyncIterator
from email import message_from_bytes, policy
from typing import Any

import pytest
from sqlalchemy import select

from crm_core import notices
from crm_core.clock import MINUTE
from crm_core.errors import Invalid
from crm_core.jobs import JobRow
from crm_core.schema import agent, job, notification, notification_line
from crm_core.services import Services
from switchboard.admin import insert_agent
from tests.conftest import MovableClock
from tests.fakes.smtp_relay import SmtpRelay
from tests.workers.conftest import an_inbox
from workers.notices import mail

T0 = 1_750_000_020_000


@pytest.fixture
async def relay() -> AsyncIterator[SmtpRelay]:
    async with SmtpRelay() as running:
        yield running


@pytest.fixture
async def person(services: Services, relay: SmtpRelay, clock: MovableClock) -> int:
    """A Ukrainian supervisor who wants mail, and the inbox that sends it."""
    clock.set(T0)
    box = await an_inbox(
        services.db, "email", address="help@acme.example",
        config={"smtp_host": "127.0.0.1", "smtp_port": relay.port, "smtp_tls": "none"},
    )  # fmt: skip
    async with services.db.transaction() as uow:
        agent_id = await insert_agent(
            uow, email="olha@acme.example", name="Olha", role="supervisor", password="long enough 1"
        )
        assert agent_id is not None
        await uow.execute(agent.update().values(language="uk"))
        await notices.want_mail(uow, agent_id, wanted=True)
        await notices.set_mail_inbox(uow, box["id"], actor="system")
    return agent_id


async def tell(services: Services, agent_id: int, *sources: str) -> None:
    line = {"what": "step", "number": 1001, "subject": "Човен", "metric": "first_reply", "step": "100%"}
    async with services.db.transaction() as uow:
        await notices.tell(uow, "sla", [notices.Line(agent_id, s, line) for s in sources])


async def jobs(services: Services) -> list[Any]:
    async with services.db.reading() as conn:
        return list((await conn.execute(select(job).where(job.c.name == notices.MAIL_JOB))).mappings())


async def post(services: Services) -> None:
    names = ("id", "name", "args", "lane", "order_key", "attempts", "max_attempts", "created_at")
    for row in await jobs(services):
        await mail(services, JobRow(lease_token="", **{n: row[n] for n in names}))


async def test_a_minute_is_one_mail_at_its_end_and_once(
    services: Services, person: int, relay: SmtpRelay
) -> None:
    await tell(services, person, *(f"a{n}" for n in range(7)))
    await tell(services, person, *(f"b{n}" for n in range(5)))
    [waiting] = await jobs(services)
    assert waiting["run_at"] == (T0 // MINUTE + 1) * MINUTE
    await post(services)
    await post(services)
    [sent] = relay.mails
    assert (sent.sender, sent.recipients) == ("", ("olha@acme.example",))
    letter = message_from_bytes(sent.data, policy=policy.default)
    assert letter["Subject"] == "Switchboard: потребують уваги — 12"
    text = letter.get_content()
    assert text.count("№1001 Човен: обіцянку порушено (перша відповідь)") == 10
    assert "… та ще 2" in text


async def test_what_was_read_at_the_desk_is_not_mailed(
    services: Services, person: int, relay: SmtpRelay
) -> None:
    await tell(services, person, "a")
    async with services.db.transaction() as uow:
        await notices.mark_all_read(uow, person)
    await post(services)
    assert relay.mails == []
    async with services.db.reading() as conn:
        assert await conn.scalar(select(notification.c.mailed_at)) is None


async def test_who_does_not_want_it_gets_none_and_an_inbox_must_be_one(
    services: Services, person: int
) -> None:
    async with services.db.transaction() as uow:
        await notices.want_mail(uow, person, wanted=False)
    await tell(services, person, "a")
    assert await jobs(services) == []
    with pytest.raises(Invalid):
        async with services.db.transaction() as uow:
            await notices.set_mail_inbox(uow, 4711, actor="system")


async def test_old_notices_go_and_young_ones_stay(services: Services, person: int) -> None:
    await tell(services, person, "old")
    services.clock.advance(notices.KEEP_MS + MINUTE)  # type: ignore[attr-defined]
    await tell(services, person, "young")
    async with services.db.transaction() as uow:
        await notices.forget(uow)
    async with services.db.reading() as conn:
        kept = (await conn.execute(select(notification_line.c.source))).scalars().all()
    assert kept == ["young"]
