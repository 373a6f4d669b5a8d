"""Polled inboxes have one owner; another takes over from the stored cursor; a deposed one cannot move it."""

from pathlib import Path
from typing import Any

import pytest

from channels.contract import RawItem
from crm_core import leases
from crm_core.clock import MINUTE
from crm_core.schema import inbound, inbox_state, message
from crm_core.services import Services
from tests.conftest import MovableClock
from tests.fakes.dovecot import PASSWORD, Dovecot
from tests.fakes.telegram_api import FakeTelegram
from tests.workers.conftest import an_inbox, rows, until
from workers.pollers import Deposed, LeasedSink, Pollers
from workers.runner import LocalRunner

TOKEN = "123456:AAtestTokenTestTokenTestTokenTest"


async def test_updates_are_stored_once_over_a_change_of_owner(
    services: Services, runner: LocalRunner, clock: MovableClock
) -> None:
    async with FakeTelegram(token=TOKEN, time_scale=0.01) as fake:
        await an_inbox(
            services.db, "telegram", config={"token": TOKEN, "mode": "polling", "api_base": fake.base_url}
        )
        customer = fake.user(501, "Ірина", language_code="uk")
        first, second = Pollers(services), Pollers(services)
        first.start()
        await customer.send_text("один")
        await until(lambda: rows(services.db, message, message.c.text == "один"))
        await first.stop()
        await customer.send_text("два")
        second.start()
        await until(lambda: rows(services.db, message, message.c.text == "два"))
        await second.stop()
    assert [m["text"] for m in await rows(services.db, message)] == ["один", "два"]
    (state,) = await rows(services.db, inbox_state)
    assert state["cursor"]["offset"] > 0 and state["last_inbound_at"] is not None


async def test_a_deposed_owner_stores_nothing(services: Services, clock: MovableClock) -> None:
    box = await an_inbox(services.db, "telegram", config={})
    async with services.db.transaction() as uow:
        assert await leases.acquire(uow, f"inbox:{box['id']}", "old", ttl_ms=1_000) == 1
    async with services.db.transaction() as uow:
        assert await leases.acquire(uow, f"inbox:{box['id']}", "new", ttl_ms=1_000) is None
    clock.advance(MINUTE)
    async with services.db.transaction() as uow:
        assert await leases.acquire(uow, f"inbox:{box['id']}", "new", ttl_ms=60_000) == 2
    item = RawItem(dedupe_key="u", lane="l", body=b"{}")
    with pytest.raises(Deposed):
        await LeasedSink(services, box["id"], "old").store([item], cursor={"offset": 5})
    assert await rows(services.db, inbound) == [] and await rows(services.db, inbox_state) == []
    await LeasedSink(services, box["id"], "new").store([item], cursor={"offset": 6})
    assert await LeasedSink(services, box["id"], "new").cursor() == {"offset": 6}


async def test_a_mailbox_is_read_by_imap_from_its_cursor(
    services: Services, runner: LocalRunner, tmp_path: Path
) -> None:
    with Dovecot() as server:
        config: dict[str, Any] = {
            "address": "support@bureau.example",
            "imap_host": "127.0.0.1",
            "imap_port": server.imap_port,
            "imap_user": "support",
            "imap_password": PASSWORD,
            "imap_tls": "none",
        }
        await an_inbox(services.db, "email", address="support@bureau.example", config=config)
        pollers = Pollers(services)
        for n in (1, 2):
            mail = f"From: p{n}@c.example\r\nTo: support@bureau.example\r\nMessage-ID: <{n}@c>\r\nSubject: m{n}\r\n\r\nhello {n}\r\n"
            await server.deliver("support", mail.encode())
            if n == 1:
                pollers.start()
            await until(lambda n=n: rows(services.db, message, message.c.text.like(f"hello {n}%")))
        await pollers.stop()
    (state,) = await rows(services.db, inbox_state)
    assert state["cursor"]["last_uid"] >= 2 and state["cursor"]["uidvalidity"]
