"""A file that came by reference is fetched by the server, and the desk is told what became of it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from crm_core.db.engine import Database
from crm_core.schema import attachment, event, job
from crm_core.services import Services
from tests.fakes.telegram_api import FakeTelegram
from tests.workers.conftest import an_inbox, rows, until
from workers.pollers import Pollers
from workers.runner import LocalRunner

#: the smallest PNG there is: one transparent pixel
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001"
    "e221bc330000000049454e44ae426082"
)


@pytest.fixture
async def bot_api(services: Services, runner: LocalRunner) -> AsyncIterator[FakeTelegram]:
    """A Bot API server whose bot is one of our inboxes, polled."""
    async with FakeTelegram(token="123456:AAtestTokenTestTokenTestTokenTest", time_scale=0.01) as fake:
        config = {"token": fake.token, "mode": "polling", "api_base": fake.base_url}
        await an_inbox(services.db, "telegram", config=config)
        pollers = Pollers(services)
        pollers.start()
        yield fake
        await pollers.stop()


async def fetched(db: Database) -> dict[str, Any]:
    async def done() -> dict[str, Any] | None:
        found = await rows(db, attachment, attachment.c.state != "pending")
        return found[0] if found and not await rows(db, job, job.c.name == "attachment.fetch") else None

    return await until(done)


async def told(db: Database) -> list[dict[str, Any]]:
    edits = await rows(db, event, event.c.kind == "message.edited")
    return [e["payload"]["message"]["attachments"][0] for e in edits if e["payload"]["what"] == "attachment"]


async def test_a_picture_is_stored_and_the_desk_is_told(services: Services, bot_api: FakeTelegram) -> None:
    await bot_api.user(501, "Ірина").send_document(PNG, name="ticket.png", mime="image/png")
    row = await fetched(services.db)
    assert (row["state"], row["mime"], row["size"], row["error"]) == ("stored", "image/png", len(PNG), None)
    assert b"".join([chunk async for chunk in services.files.get(row["blob_key"])]) == PNG
    (shown,) = await told(services.db)
    assert (shown["id"], shown["state"]) == (row["id"], "stored")


async def test_a_file_that_is_gone_is_told_as_failed(services: Services, bot_api: FakeTelegram) -> None:
    bot_api.fail("getFile", status=400, description="Bad Request: wrong file_id", times=9)
    await bot_api.user(501, "Ірина").send_document(PNG, name="ticket.png", mime="image/png")
    row = await fetched(services.db)
    assert row["state"] == "failed"
    assert row["error"]
    (shown,) = await told(services.db)
    assert (shown["id"], shown["state"]) == (row["id"], "failed")


async def test_what_runs_when_clicked_on_is_named_but_not_fetched(
    services: Services, bot_api: FakeTelegram
) -> None:
    await bot_api.user(501, "Ірина").send_document(b"MZ", name="ticket.pdf.exe", mime="application/pdf")
    row = await fetched(services.db)
    assert (row["state"], row["error"], row["blob_key"]) == ("refused", "runs_on_click", None)
    assert not [call for call in bot_api.calls if call[0].lower() == "getfile"]
