"""Outbound webhooks through their edges: signed, retried, replayed, switched off, and never inside our own net."""

import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import select

from crm_core import webhooks
from crm_core.clock import DAY, HOUR, MINUTE, SECOND
from crm_core.db.engine import Database
from crm_core.errors import Conflict, Invalid
from crm_core.events import DomainEvent
from crm_core.infra.local import DirectoryFiles, MemoryLimiter
from crm_core.jobs import JobRegistry, JobRow
from crm_core.schema import event, job, setting, webhook, webhook_delivery
from crm_core.services import AppSettings, Services
from switchboard import wiring
from tests.conftest import MovableClock
from tests.fakes.hook_receiver import HookReceiver
from tests.safely_read import log_is_safe
from workers import webhooks as posting
from workers.execute import execute

T0 = 1_750_000_000_000


@pytest.fixture
async def services(db: Database, clock: MovableClock, tmp_path: Path) -> AsyncIterator[Services]:
    clock.set(T0)
    async with aiohttp.ClientSession() as http:
        yield Services(
            db=db,
            clock=clock,
            hints=db.hints,
            files=DirectoryFiles(tmp_path / "blobs"),
            limiter=MemoryLimiter(),
            http=http,
            settings=AppSettings(
                public_url="http://desk",
                secret_key=b"k" * 32,
                data_dir=tmp_path,
                webhook_private=("127.0.0.0/8",),
            ),
        )


@pytest.fixture
async def receiver(clock: MovableClock) -> AsyncIterator[HookReceiver]:
    async with HookReceiver(now_s=lambda: clock.now_ms() // 1000) as running:
        yield running


async def endpoint(services: Services, receiver: HookReceiver, *events: str, **more: Any) -> dict[str, Any]:
    async with services.db.transaction() as uow:
        row = await webhooks.create(
            uow,
            **{
                "key": "ours",
                "name": "Ours",
                "url": receiver.url,
                "events": events,
                "actor": "system",
                **more,
            },
        )
    receiver.secret = row["secret"]
    return row


async def happen(services: Services, kind: str = "sla.breached", **payload: Any) -> None:
    async with services.db.transaction() as uow:
        await uow.emit(
            DomainEvent(kind=kind, subject_kind="inquiry", subject_id=7, inquiry_id=7, payload=payload)
        )


async def sweep(services: Services) -> None:
    await log_is_safe(services.db)
    await posting.sweep(services.db)


async def run(services: Services) -> int:
    """All due webhook jobs, as the runner runs them. Returns how many."""
    registry = JobRegistry()
    posting.declare(registry)
    done = 0
    while True:
        async with services.db.transaction() as uow:
            due = (job.c.state == "ready") & (job.c.run_at <= uow.now)
            row = await uow.row(select(job).where(due).order_by(job.c.id).limit(1))
            if row is None:
                return done
            await uow.execute(
                job.update()
                .where(job.c.id == row["id"])
                .values(
                    state="leased", lease_token="t", lease_until=uow.now + MINUTE, attempts=job.c.attempts + 1
                )
            )
        names = ("id", "name", "args", "lane", "order_key", "max_attempts", "created_at")
        mine = JobRow(lease_token="t", attempts=row["attempts"] + 1, **{n: row[n] for n in names})
        await execute(services, registry, mine)
        done += 1


async def deliveries(services: Services) -> list[Any]:
    async with services.db.reading() as conn:
        return list((await conn.execute(select(webhook_delivery).order_by(webhook_delivery.c.id))).mappings())


async def the(services: Services) -> Any:
    async with services.db.reading() as conn:
        return (await conn.execute(select(webhook))).mappings().one()


async def test_events_that_the_filter_names_are_posted_signed_and_once(
    services: Services, receiver: HookReceiver
) -> None:
    await happen(services, before=True)
    services.clock.advance(SECOND)  # type: ignore[attr-defined]
    await endpoint(services, receiver, "sla.*", "page.raised")
    await happen(services, text="привіт")
    await happen(services, "message.added")
    await happen(services, "page.raised")
    for _ in range(3):
        await sweep(services)
    assert await run(services) == 2
    assert receiver.complaints == []
    assert [(p["kind"], p["data"], p["inquiry_id"]) for p in receiver.posts] == [
        ("sla.breached", {"text": "привіт"}, 7), ("page.raised", {}, 7)]  # fmt: skip
    assert {row["state"] for row in await deliveries(services)} == {"delivered"}


async def test_its_own_events_never_cause_posts(services: Services, receiver: HookReceiver) -> None:
    await endpoint(services, receiver, "*")
    await happen(services, "webhook.changed")
    await sweep(services)
    assert await deliveries(services) == []


async def test_eight_retries_within_a_day_with_the_same_id_then_failed_and_replayed(
    services: Services, receiver: HookReceiver
) -> None:
    await endpoint(services, receiver, "sla.*")
    receiver.answers = [500] * 9
    await happen(services)
    await sweep(services)
    await run(services)
    for wait in webhooks.RETRY_MS:
        services.clock.advance(wait - 1)  # type: ignore[attr-defined]
        assert await run(services) == 0
        services.clock.advance(1)  # type: ignore[attr-defined]
        await run(services)
    assert 23 * HOUR < sum(webhooks.RETRY_MS) <= DAY
    [row] = await deliveries(services)
    assert (row["state"], row["attempts"], len(row["history"])) == ("failed", 9, 9)
    assert row["history"][0]["status"] == 500
    assert [p["attempt"] for p in receiver.posts] == [str(n) for n in range(1, 10)]
    async with services.db.transaction() as uow:
        await webhooks.replay(uow, row["id"])
    services.clock.advance(MINUTE)  # type: ignore[attr-defined]
    await run(services)
    assert len({p["id"] for p in receiver.posts}) == 1
    assert [r["state"] for r in await deliveries(services)] == ["delivered"]


async def test_others_wait_while_it_fails_and_follow_when_it_is_well(
    services: Services, receiver: HookReceiver
) -> None:
    await endpoint(services, receiver, "sla.*")
    receiver.answers = [503]
    for n in range(5):
        await happen(services, n=n)
    await sweep(services)
    await run(services)
    assert [row["state"] for row in await deliveries(services)] == ["pending", *["held"] * 4]
    assert len(receiver.posts) == 1
    services.clock.advance(webhooks.RETRY_MS[0])  # type: ignore[attr-defined]
    await run(services)
    assert {row["state"] for row in await deliveries(services)} == {"delivered"}
    assert len(receiver.events) == 5
    assert (await the(services))["failing_since"] is None


async def test_who_asks_for_patience_gets_it(services: Services, receiver: HookReceiver) -> None:
    await endpoint(services, receiver, "sla.*")
    receiver.answers = [(429, {"Retry-After": "120"})]
    await happen(services)
    await sweep(services)
    await run(services)
    services.clock.advance(119 * SECOND)  # type: ignore[attr-defined]
    assert await run(services) == 0
    services.clock.advance(2 * SECOND)  # type: ignore[attr-defined]
    await run(services)
    assert len(receiver.events) == 1


async def alarms(services: Services) -> list[str]:
    async with services.db.reading() as conn:
        rows = await conn.execute(select(event.c.payload).where(event.c.kind == "alarm.raised"))
        return [payload["what"] for (payload,) in rows]


async def test_switched_off_with_an_alarm_after_a_day_of_failure_and_nothing_lost(
    services: Services, receiver: HookReceiver
) -> None:
    made = await endpoint(services, receiver, "sla.*")
    receiver.answers = [500] * 3
    await happen(services)
    await sweep(services)
    await run(services)
    services.clock.advance(DAY)  # type: ignore[attr-defined]
    await run(services)
    row = await the(services)
    assert (row["active"], row["disabled_because"]) == (False, "answered 500: not now")
    assert await alarms(services) == ["webhook_disabled"]
    assert [r["state"] for r in await deliveries(services)] == ["held"]
    with pytest.raises(Conflict, match="switched off"):
        async with services.db.transaction() as uow:
            await webhooks.test(uow, made["id"], actor="agent:1")
    receiver.answers = []
    async with services.db.transaction() as uow:
        await webhooks.change(uow, made["id"], {"active": True}, actor="agent:1")
    await run(services)
    assert [r["state"] for r in await deliveries(services)] == ["delivered"]


async def test_gone_is_gone(services: Services, receiver: HookReceiver) -> None:
    await endpoint(services, receiver, "sla.*")
    receiver.answers = [410]
    await happen(services)
    await sweep(services)
    await run(services)
    assert (await the(services))["active"] is False
    assert await alarms(services) == ["webhook_disabled"]


async def test_redirects_are_not_followed(services: Services, receiver: HookReceiver) -> None:
    await endpoint(services, receiver, "sla.*")
    receiver.answers = [(302, {"Location": "/elsewhere"})]
    await happen(services)
    await sweep(services)
    await run(services)
    assert [p["path"] for p in receiver.posts] == ["/hook"]
    [row] = await deliveries(services)
    assert (row["state"], row["history"][0]["error"]) == (
        "pending",
        "answered 302: redirects are not followed",
    )


async def test_a_dead_receiver_is_an_error_on_the_delivery(
    services: Services, receiver: HookReceiver
) -> None:
    await endpoint(services, receiver, "sla.*", url="http://127.0.0.1:9/")
    await happen(services)
    await sweep(services)
    await run(services)
    [row] = await deliveries(services)
    assert row["state"] == "pending"
    assert row["history"][0]["status"] is None
    assert "Connect" in row["history"][0]["error"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254"]
)
async def test_our_own_net_is_never_reached(host: str, receiver: HookReceiver) -> None:
    url = receiver.url.replace("127.0.0.1", host)
    status, error, _ = await posting.post(url, b"{}", {}, allowed=())
    assert status is None
    assert error is not None and "public" in error
    assert (receiver.posts, receiver.complaints) == ([], [])


@pytest.mark.parametrize(
    ("address", "allowed", "fine"),
    [
        ("8.8.8.8", (), True),
        ("10.1.2.3", (), False),
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("192.168.1.5", ("crm.internal",), True),
        ("192.168.1.5", ("10.0.0.0/8", "other"), False),
        ("100.64.0.1", (), False),
        ("224.0.0.1", (), False),
        ("fd00::1", (), False),
        ("64:ff9b::7f00:1", (), False),
        ("2002:7f00:1::", (), False),
        ("::ffff:8.8.8.8", (), True),
    ],
)
def test_which_addresses_may_be_reached(address: str, allowed: tuple[str, ...], fine: bool) -> None:
    assert posting.may_reach(ipaddress.ip_address(address), "crm.internal", allowed) is fine


@pytest.mark.parametrize(
    "url", ["ftp://x.example", "https://", "http://u:p@x.example", "x", "http://[::1", "http://a b/"]
)
async def test_urls_that_nobody_can_post_to_are_refused(services: Services, url: str) -> None:
    with pytest.raises(Invalid):
        async with services.db.transaction() as uow:
            await webhooks.create(uow, key="k", name="n", url=url, actor="system")


async def test_what_is_too_large_is_left_out_and_said_so() -> None:
    body = webhooks.body_of("e1", "sla.step", T0, {"text": "ї" * webhooks.MAX_BODY})
    assert '"truncated": true' in body
    assert len(body) < 1000


async def test_the_log_from_before_is_not_sent_when_one_is_switched_on_again(
    services: Services, receiver: HookReceiver
) -> None:
    made = await endpoint(services, receiver, "sla.*")
    await sweep(services)
    async with services.db.transaction() as uow:
        await webhooks.change(uow, made["id"], {"active": False}, actor="system")
    await happen(services, meanwhile=True)
    await sweep(services)
    services.clock.advance(SECOND)  # type: ignore[attr-defined]
    async with services.db.transaction() as uow:
        await webhooks.change(uow, made["id"], {"active": True}, actor="system")
        assert await uow.scalar(select(setting.c.value).where(setting.c.key == webhooks.CURSOR)) is None
    await happen(services, later=True)
    await sweep(services)
    await run(services)
    assert [p["data"] for p in receiver.posts] == [{"later": True}]


def test_the_process_has_the_jobs_and_the_reader_of_the_log() -> None:
    assert {"webhook.deliver", "webhook.release", "notice.mail", "sla.tell", "sla.page"} <= set(
        wiring.jobs().names()
    )
    assert "webhooks" in wiring.sweeps()
