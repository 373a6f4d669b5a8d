"""Replies leave through the channel with honest states: sent, failed, unknown; in order; never twice by themselves."""

import email
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import select, update

from crm_core import inquiries, messages
from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from crm_core.schema import conversation, event, identity, inbound, inquiry, job, message
from crm_core.services import Services
from tests.conftest import MovableClock
from tests.fakes.smtp_relay import SmtpRelay
from tests.fakes.telegram_api import FakeTelegram
from tests.workers.conftest import an_inbox, rows, until
from workers.pollers import Pollers
from workers.runner import LocalRunner


@pytest.fixture
async def bot_api() -> AsyncIterator[FakeTelegram]:
    async with FakeTelegram(token="123456:AAtestTokenTestTokenTestTokenTest", time_scale=0.01) as fake:
        yield fake


@pytest.fixture
async def telegram(
    services: Services, runner: LocalRunner, bot_api: FakeTelegram
) -> AsyncIterator[dict[str, Any]]:
    """A polled Telegram inbox with one customer who has written."""
    box = await an_inbox(
        services.db,
        "telegram",
        config={"token": bot_api.token, "mode": "polling", "api_base": bot_api.base_url},
    )
    pollers = Pollers(services)
    pollers.start()
    customer = bot_api.user(501, "Ірина", language_code="uk")
    await customer.send_text("Добрий день, де мій ваучер?")
    await until(lambda: rows(services.db, message))
    yield {"box": box, "customer": customer}
    await pollers.stop()


async def reply(db: Database, text: str, **more: Any) -> dict[str, Any]:
    async with db.transaction() as uow:
        row = await uow.row(select(inquiry).order_by(inquiry.c.id.desc()).limit(1))
        assert row is not None
        made, _ = await messages.post_message(
            uow,
            **{
                "conversation_id": row["conversation_id"],
                "inquiry_row": row,
                "author_kind": "agent",
                "author_id": 1,
                "author_name": "Олена",
                "text": text,
                **more,
            },
        )
    return made


async def settled(db: Database, message_id: int) -> dict[str, Any]:
    async def done() -> dict[str, Any] | None:
        (row,) = await rows(db, message, message.c.id == message_id)
        return row if row["state"] not in ("queued", "sending") else None

    return await until(done)


async def test_a_reply_reaches_telegram_once_and_in_order(
    services: Services, telegram: dict[str, Any], bot_api: FakeTelegram
) -> None:
    made = [await reply(services.db, f"відповідь {n}") for n in range(3)]
    states = [(await settled(services.db, m["id"]))["state"] for m in made]
    assert states == ["sent"] * 3
    assert [m.text for m in telegram["customer"].received] == ["відповідь 0", "відповідь 1", "відповідь 2"]
    assert await rows(services.db, job, job.c.name == messages.DELIVER_JOB) == []


async def test_a_blocked_bot_fails_the_message_and_marks_the_address(
    services: Services, telegram: dict[str, Any]
) -> None:
    await telegram["customer"].block()
    made = await reply(services.db, "чи отримали?")
    row = await settled(services.db, made["id"])
    assert row["state"] == "failed" and "blocked" in row["error"]
    assert (await rows(services.db, identity, identity.c.kind == "telegram"))[0]["unreachable_at"] is not None


async def test_a_rate_limit_pauses_the_account_and_loses_nothing(
    services: Services, telegram: dict[str, Any], bot_api: FakeTelegram
) -> None:
    bot_api.rate_limit(1)
    made = [await reply(services.db, f"m{n}") for n in range(2)]
    assert [(await settled(services.db, m["id"]))["state"] for m in made] == ["sent", "sent"]
    assert [m.text for m in telegram["customer"].received] == ["m0", "m1"]


async def test_a_server_error_is_tried_again_and_a_lost_answer_waits_for_a_person(
    services: Services, telegram: dict[str, Any], bot_api: FakeTelegram, clock: MovableClock
) -> None:
    bot_api.fail("sendMessage", status=500)
    made = await reply(services.db, "перша")
    await until(lambda: rows(services.db, job, job.c.name == messages.DELIVER_JOB, job.c.state == "ready"))
    clock.advance(MINUTE)
    assert (await settled(services.db, made["id"]))["state"] == "sent"
    bot_api.fail("sendMessage", drop="after")
    made = await reply(services.db, "друга")
    row = await settled(services.db, made["id"])
    assert row["state"] == "unknown"
    async with services.db.transaction() as uow:
        await messages.resend(uow, made["id"], actor="agent:1")
    assert (await settled(services.db, made["id"]))["state"] == "sent"


async def test_a_crash_after_the_request_is_an_unknown_outcome(
    services: Services, telegram: dict[str, Any], runner: LocalRunner
) -> None:
    await runner.stop()
    made = await reply(services.db, "чи дійшло?")
    async with services.db.transaction() as uow:
        await uow.execute(message.update().where(message.c.id == made["id"]).values(state="sending"))
    runner.start()
    assert (await settled(services.db, made["id"]))["state"] == "unknown"
    assert telegram["customer"].received == []


async def test_a_group_that_became_a_supergroup_keeps_its_thread(
    services: Services, telegram: dict[str, Any], bot_api: FakeTelegram
) -> None:
    bot_api.group(-1009, "New")
    bot_api.group(-4001, "Old").migrated_to = -1009
    async with services.db.transaction() as uow:
        await uow.execute(update(conversation).values(key="-4001", address="-4001"))
    await settled(services.db, (await reply(services.db, "хто тут?"))["id"])

    async def moved() -> list[dict[str, Any]]:
        return await rows(services.db, conversation, conversation.c.key == "-1009")

    (thread,) = await until(moved)
    assert thread["address"] == "-1009"
    asked = len(bot_api.calls)
    await settled(services.db, (await reply(services.db, "ще раз"))["id"])
    assert [call[1]["chat_id"] for call in bot_api.calls[asked:] if call[0].lower() == "sendmessage"] == [
        "-1009"
    ]


async def test_a_note_goes_nowhere(services: Services, telegram: dict[str, Any]) -> None:
    made = await reply(services.db, "клієнт нервує", internal=True)
    assert made["state"] == "received"
    assert await rows(services.db, job, job.c.name == messages.DELIVER_JOB) == []


async def test_the_same_client_id_is_one_message(services: Services, telegram: dict[str, Any]) -> None:
    first = await reply(services.db, "раз", client_id="c1")
    again = await reply(services.db, "раз", client_id="c1")
    assert again["id"] == first["id"]
    await settled(services.db, first["id"])
    assert [m.text for m in telegram["customer"].received] == ["раз"]
    seqs = [m["seq"] for m in await rows(services.db, message)]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_mail_goes_out_threaded_and_its_answer_comes_back_to_the_same_ticket(
    services: Services, runner: LocalRunner
) -> None:
    from channels.email.items import make_item

    async with SmtpRelay() as relay:
        box = await an_inbox(
            services.db,
            "email",
            address="support@bureau.example",
            config={
                "address": "support@bureau.example",
                "smtp_host": "127.0.0.1",
                "smtp_port": relay.port,
                "smtp_tls": "none",
            },
        )

        async def receive(raw: str) -> None:
            async with services.db.transaction() as uow:
                from crm_core import inbound_rows

                item = make_item(
                    raw.replace("\n", "\r\n").encode(),
                    received_at=uow.now,
                    envelope_from="petro@example.com",
                    envelope_to="support@bureau.example",
                )
                await inbound_rows.store_items(uow, box["id"], [item])

        await receive(
            "From: Petro <petro@example.com>\nTo: support@bureau.example\nSubject: Refund\nMessage-ID: <a1@example.com>\n\nRefund please\n"
        )
        await until(lambda: rows(services.db, message))
        made = await reply(services.db, "Of course.")
        assert (await settled(services.db, made["id"]))["state"] == "sent"
        (mail,) = relay.mails
        sent = email.message_from_bytes(mail.data)
        assert sent["In-Reply-To"] == "<a1@example.com>" and "Refund" in sent["Subject"]
        assert "+t" in sent["Reply-To"]
        await receive(
            f"From: Petro <petro@example.com>\nTo: support@bureau.example\nSubject: other words\nMessage-ID: <a2@example.com>\n"
            f"In-Reply-To: {sent['Message-ID']}\n\nThank you!\n"
        )
        await until(lambda: rows(services.db, message, message.c.text.like("Thank%")))
    assert len(await rows(services.db, inquiry)) == 1
    assert [r["state"] for r in await rows(services.db, inbound)] == ["done", "done"]


async def test_pending_work_reopens_when_the_customer_writes(
    services: Services, telegram: dict[str, Any]
) -> None:
    async with services.db.transaction() as uow:
        row = await uow.row(select(inquiry))
        assert row is not None
        await inquiries.change(uow, row["id"], {"status": "pending"}, actor="agent:1")
    await telegram["customer"].send_text("ось номер бронювання")
    await until(lambda: rows(services.db, inquiry, inquiry.c.status == "open"))
    assert any(
        e["payload"].get("cause") == "customer_wrote"
        for e in await rows(services.db, event, event.c.kind == "inquiry.updated")
    )
