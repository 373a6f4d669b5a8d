"""Reports against days that were played through the core's own services: counted once, where and when it was decided."""

import csv
import io
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from crm_core.call_state import CallChange, Change
from crm_core.clock import DAY, HOUR, MINUTE, from_iso
from crm_core.db.engine import Database
from crm_core.errors import Invalid
from crm_core.events import DomainEvent
from crm_core.schema import call as call_table
from crm_core.schema import team
from crm_core.sheet import lines
from routing.schema import assignment, work_item
from routing.sla import reports, reports_promises, reports_queue
from routing.sla.reports_buckets import Buckets, days
from routing.sla.sweeper import sweep
from tests.routing.sla.builders import T0, Office, at, opened

KYIV = ZoneInfo("Europe/Kyiv")


def ask(begin: int = T0 - DAY, end: int = T0 + 30 * DAY, **more: Any) -> reports.Question:
    return reports.Question(begin=begin, end=end, zone=KYIV, **more)


async def report(office: Office, make: Any, question: reports.Question) -> dict[str, Any]:
    async with office.db.reading() as conn:
        return await make(conn, question, office.clock.now_ms())


@pytest.fixture
async def office(db: Database, clock: Any) -> Office:
    return await Office.open(db, clock)


async def test_a_promise_counts_once_where_and_when_it_was_decided(office: Office) -> None:
    await office.promise({"first_reply": 60, "requester_wait": 240})
    met, broken, still, spam = [await opened(office, 0, user=u) for u in ("a", "b", "c", "d")]
    await office.agent(30, met)
    await office.change(40, spam, outcome="spam", status="closed")
    office.move(61)
    await sweep(office.db)
    async with office.db.transaction() as uow:
        other = await uow.insert(team, {"name": "Other", "calendar_id": None, "settings": {}, "active": True, "created_at": 0})  # fmt: skip
    # The team changes after the breach and before the answer: the breach stays with who had it.
    await office.change(70, broken, team_id=other)
    await office.agent(90, broken)
    first = await report(office, reports_promises.sla, ask(metric="first_reply", by=("team", "metric")))
    total = first["total"]
    assert (total["decided"], total["met"], total["breached"]) == (3, 1, 2)
    assert total["met_pct"] == pytest.approx(100 / 3)
    assert (total["breached_open"], total["ended"]) == (1, 2)
    assert (total["elapsed_median_s"], total["overrun_p90_s"]) == (60 * 60, pytest.approx(0.9 * 30 * 60))
    [row] = first["rows"]
    assert (row["team"], row["metric"]) == ({"id": office.team_id, "name": "Support"}, "first_reply")
    assert still

    half_hours = await report(
        office, reports_promises.sla, ask(at(0), at(120), metric="first_reply", bucket="30m")
    )
    assert [(r["start"][11:16], r["met"], r["breached"]) for r in half_hours["rows"]] == [
        ("07:30", 1, 0), ("08:00", 0, 2)]  # fmt: skip
    # Half-open: the instant of the end is the next one's.
    assert (await report(office, reports_promises.sla, ask(at(0), at(60), metric="first_reply")))["total"][
        "breached"
    ] == 0


async def test_reopened_waits_and_replies_taken_back_are_decided_later(office: Office) -> None:
    await office.promise({"first_reply": 60, "requester_wait": 240, "total_resolution": 600})
    ticket = await opened(office)
    reply = await office.agent(10, ticket)
    await office.delivery(15, reply, "failed")
    question = ask(metric="first_reply")
    assert (await report(office, reports_promises.sla, question))["total"]["decided"] == 0
    await office.agent(20, ticket)
    await office.change(30, ticket, status="solved")
    await office.customer(50)
    waits = ask(metric="requester_wait")
    assert (await report(office, reports_promises.sla, waits))["total"]["decided"] == 0
    await office.change(60, ticket, status="solved")
    shown = await report(office, reports_promises.sla, waits)
    assert (shown["total"]["met"], shown["total"]["elapsed_median_s"]) == (1, 40 * 60)
    office.move(60 + 8 * 24 * 60)
    solved = (await report(office, reports_promises.resolution, ask()))["total"]
    assert (solved["solved"], solved["reopened"], solved["reopen_pct"]) == (2, 1, 50)
    assert (solved["fcr_judged"], solved["fcr"], solved["fcr_pct"]) == (2, 1, 50)


async def test_a_new_request_within_seven_days_is_no_first_contact_resolution(office: Office) -> None:
    ticket = await opened(office)
    await office.change(10, ticket, status="solved")
    early = (await report(office, reports_promises.resolution, ask()))["total"]
    assert (early["solved"], early["fcr_judged"]) == (1, 0)
    await office.change(20, ticket, status="closed")
    await opened(office, 3 * 24 * 60)
    office.move(8 * 24 * 60)
    late = (await report(office, reports_promises.resolution, ask(by=("team",))))["total"]
    assert (late["fcr_judged"], late["fcr"]) == (1, 0)


async def test_the_age_of_what_is_open(office: Office) -> None:
    for n, minutes in enumerate((0, 60, 120)):
        await opened(office, minutes, user=f"u{n}")
    done = await opened(office, 130, user="done")
    await office.change(140, done, status="solved")
    office.move(180)
    shown = await report(office, reports_promises.backlog, ask(by=("channel",)))
    assert shown["total"] == {
        "open": 3, "breached": 0, "age_p50_s": 7200, "age_p90_s": pytest.approx(10080), "age_max_s": 10800,
    }  # fmt: skip
    assert [r["channel"] for r in shown["rows"]] == ["email"]


async def test_what_is_open_and_broken_whichever_promise_it_is(office: Office) -> None:
    await office.promise({"first_reply": 60, "next_reply": 60})
    late, answered, kept = [await opened(office, 0, user=u) for u in ("a", "b", "c")]
    await office.agent(30, kept)
    office.move(61)
    await sweep(office.db)
    shown = await report(office, reports_promises.backlog, ask(by=("team",)))
    assert (shown["total"]["open"], shown["total"]["breached"]) == (3, 2)
    assert [r["breached"] for r in shown["rows"]] == [2]
    # The broken reply has come: nothing of it is broken any more.
    await office.agent(90, answered)
    assert (await report(office, reports_promises.backlog, ask()))["total"]["breached"] == 1
    assert late


async def test_service_levels_of_chats_with_their_variants(db: Database, clock: Any) -> None:
    office = await Office.open(db, clock, channel="webchat")
    waits = {"a": 10, "b": 15, "c": 50}
    for user, seconds in waits.items():
        ticket = await opened(office, 0, user=user)
        office.clock.set(T0 + seconds * 1000)
        row = {"id": ticket, "channel": "webchat", "team_id": office.team_id, "assignee_id": office.agent_id}
        async with office.db.transaction() as uow:
            await uow.emit(
                DomainEvent(
                    kind="inquiry.assigned", subject_kind="inquiry", subject_id=ticket, inquiry_id=ticket,
                    context={"inquiry": row, "before": {**row, "assignee_id": None}},
                )
            )  # fmt: skip
    called = await opened(office, 1, user="d")
    async with office.db.transaction() as uow:
        await uow.emit(
            DomainEvent(kind="callback.booked", subject_kind="callback", subject_id=1, inquiry_id=called)
        )
    await opened(office, 2, user="e")
    office.move(5)
    shown = await report(office, reports_queue.service, ask(bucket="15m", threshold_ms=20_000))
    total = shown["total"]
    assert (total["offered"], total["answered"], total["callbacks_taken"], total["still_waiting"]) == (
        3,
        3,
        1,
        1,
    )
    assert total["service_level_pct"] == pytest.approx(200 / 3)
    assert (total["asa_s"], total["wait_max_s"]) == (25, 50)
    assert "abandons ignored" in shown["variants"]["service_level_pct"]
    [row] = shown["rows"]
    assert row["start"] == "2025-06-02T07:00:00.000Z"


async def test_calls_are_counted_by_themselves_with_or_without_a_request(db: Database, clock: Any) -> None:
    """Calls that somebody answers at once open no request and have no clock; they are most of a call centre's day."""
    office = await Office.open(db, clock, channel="telephony")
    ticket = await opened(office, 0, user="a")
    said = [
        ("answered", 10, 70, "answered", {}), ("answered", 50, 90, "answered", {}),
        ("gave up", None, 30, "abandoned", {}), ("in a moment", None, 3, "abandoned", {}),
        ("keeps his place", None, 40, "abandoned", {"callback_id": 1}), ("silent", None, 300, "unknown", {}),
        ("rings", None, None, None, {}), ("out", 5, 60, "answered", {}),
    ]  # fmt: skip
    async with db.transaction() as uow:
        for n, (key, after, over, disposition, data) in enumerate(said):
            await uow.insert(
                call_table,
                {
                    "inbox_id": office.inbox["id"], "call_key": f"{key} {n}", "from_number": "+380501234567",
                    "direction": "outbound" if key == "out" else "inbound", "disposition": disposition, "data": data,
                    "state": "ringing" if over is None else "ended", "started_at": T0, "finalized": over is not None,
                    "answered_at": None if after is None else T0 + after * 1000, "agent_id": None,
                    "ended_at": None if over is None else T0 + over * 1000, "created_at": T0, "updated_at": T0,
                    # The same call's clock must not count it again.
                    "inquiry_id": ticket if n == 0 else None,
                },
            )  # fmt: skip
        await uow.emit(
            DomainEvent(
                kind="call.updated", subject_kind="call", subject_id=1, inquiry_id=ticket,
                context={
                    "call": {"id": 1, "direction": "inbound", "state": "ringing", "data": {}},
                    "state": SimpleNamespace(missed=False), "inquiry": {"id": ticket},
                    "changes": [CallChange(kind=Change.RINGING, at=uow.now)],
                },
            )
        )  # fmt: skip
    office.move(10)
    shown = await report(office, reports_queue.service, ask(by=("channel", "team"), threshold_ms=20_000))
    [row] = shown["rows"]
    assert (row["channel"], row["team"]) == ("telephony", {"id": office.team_id, "name": "Support"})
    assert (row["offered"], row["answered"], row["abandoned"], row["abandoned_short"]) == (4, 2, 2, 1)
    assert (row["callbacks_taken"], row["withdrawn"], row["still_waiting"]) == (1, 1, 1)
    assert (row["asa_s"], row["wait_max_s"]) == (30, 50)
    assert row["service_level_pct"] == pytest.approx(100 / 3)
    early = await report(office, reports_queue.service, ask(begin=T0 + 1, threshold_ms=20_000))
    assert early["total"]["offered"] == 0


async def test_busy_time_counts_two_chats_at_once_as_one(office: Office) -> None:
    async def held(n: int, begin: float, end: float | None, channel: str, cause: str = "solved") -> None:
        async with office.db.transaction() as uow:
            item = {c.name: None for c in work_item.c if c.name != "id"} | {
                "source_kind": "inquiry", "source_id": n, "attempt": 1, "teams_seen": [], "channel": channel,
                "kind": "ticket", "requirements": {}, "priority": "normal", "vip": False, "state": "done",
                "order_key": 0, "order_parts": {}, "ready_at": 0, "step_no": 0, "step_entered_at": 0,
                "excluded": {}, "rounds": 0, "version": 1, "created_at": 0,
            }  # fmt: skip
            known = {name: value for name, value in item.items() if value is not None}
            item_id = await uow.insert(work_item, known)
            await uow.insert(
                assignment,
                {
                    "item_id": item_id, "agent_id": office.agent_id, "team_id": office.team_id,
                    "channel": channel, "weight": 1, "holds_slot": True, "forced": False, "cause": "offer",
                    "started_at": at(begin), "ended_at": None if end is None else at(end),
                    "end_cause": cause if end is not None else None,
                },
            )  # fmt: skip

    async def presence(minutes: float, what: str) -> None:
        office.move(minutes)
        async with office.db.transaction() as uow:
            await uow.emit(
                DomainEvent(
                    kind="presence.changed", subject_kind="agent", subject_id=office.agent_id,
                    payload={"agent_id": office.agent_id, "presence": what},
                )
            )  # fmt: skip

    await presence(-10, "online")
    await presence(50, "break")
    await presence(80, "online")
    await presence(110, "offline")
    await held(1, 0, 20, "chat")
    await held(2, 10, 30, "chat", "transfer")
    await held(3, 100, 115, "voice")
    await held(4, 0, 100, "async")
    office.move(200)
    shown = await report(office, reports_queue.handling, ask(at(0), at(120), bucket="60m", by=("agent",)))
    total = shown["total"]
    assert (total["handled"], total["handled_live"], total["transferred"], total["transfer_pct"]) == (
        4,
        3,
        1,
        25,
    )
    assert total["aht_s"] == pytest.approx((20 + 20 + 15) * 60 / 3)
    assert total["busy_s"] == 45 * 60
    assert total["aht_concurrency_adjusted_s"] == 15 * 60
    # Online 0-50 and 80-110, busy 0-30 and 100-115: 85 minutes at work, 45 of them busy.
    assert (total["available_s"], total["occupancy_pct"]) == (40 * 60, pytest.approx(100 * 45 / 85))
    assert total["utilisation_pct"] is None
    assert [(r["busy_s"], r["available_s"]) for r in shown["rows"]] == [(1800, 1200), (900, 1200)]
    by_team = await report(office, reports_queue.handling, ask(at(0), at(120), by=("team",)))
    assert by_team["rows"][0]["occupancy_pct"] == pytest.approx(100 * 45 / 85)
    by_channel = await report(office, reports_queue.handling, ask(at(0), at(120), by=("channel",)))
    assert by_channel["total"]["occupancy_pct"] is None
    assert {r["channel"]: r["handled"] for r in by_channel["rows"] if r["channel"]} == {
        "chat": 2,
        "voice": 1,
        "async": 1,
    }


async def test_a_spreadsheet_says_how_it_counts(office: Office) -> None:
    await office.promise({"first_reply": 60})
    await office.agent(5, await opened(office))
    question = ask(T0, T0 + DAY, bucket="day", by=("team", "channel"))
    shown = await report(office, reports_promises.sla, question)
    header, rows = reports.sheet_of(shown, question)
    read = list(csv.reader(io.StringIO(lines([header, *rows]))))
    assert read[0][:4] == ["start (Europe/Kyiv)", "end (Europe/Kyiv)", "team", "channel"]
    assert read[1][:4] == [
        "2025-06-02 10:00:00.000+03:00",
        "2025-06-03 00:00:00.000+03:00",
        "Support",
        "email",
    ]
    assert read[2][0] == "total"
    assert any(line[0].startswith("met_pct: met / (met + breached)") for line in read[3:])


@pytest.mark.parametrize(("day", "quarters"), [("2025-03-30", 92), ("2025-10-26", 100), ("2025-06-02", 96)])
def test_a_day_has_as_many_quarters_as_it_has(day: str, quarters: int) -> None:
    begin = from_iso(f"{day}T12:00:00Z")
    [(start, stop)] = days(begin, begin + 1, KYIV)
    buckets = Buckets.cut(start, stop, "15m", KYIV)
    assert len(buckets) == quarters
    assert sum(b - a for a, b in map(buckets.span, range(len(buckets)))) == stop - start
    assert len(Buckets.cut(start, stop, "60m", KYIV)) * 4 == quarters
    assert len(Buckets.cut(start, stop, "day", KYIV)) == 1


def test_buckets_are_half_open_and_follow_the_zone() -> None:
    india = ZoneInfo("Asia/Kolkata")
    buckets = Buckets.cut(from_iso("2025-06-02T00:10:00Z"), from_iso("2025-06-02T02:00:00Z"), "60m", india)
    assert buckets.edges[1] == from_iso("2025-06-02T00:30:00Z")
    assert (
        buckets.of(buckets.edges[1]),
        buckets.of(buckets.edges[1] - 1),
        buckets.of(buckets.edges[-1]),
    ) == (1, 0, None)
    assert dict(buckets.share(buckets.edges[0] - HOUR, buckets.edges[1] + MINUTE)) == {
        0: 20 * MINUTE,
        1: MINUTE,
    }
    for wrong in ({"begin": 5, "end": 5}, {"begin": 0, "end": 400 * DAY}):
        with pytest.raises(Invalid):
            Buckets.cut(**wrong, size="15m", zone=india)


async def test_a_days_report_reads_a_day_by_the_index(office: Office) -> None:
    statement = (
        select(reports_promises.sla_event.c.id)
        .where(
            reports_promises.DECIDED,
            reports_promises.sla_event.c.at > T0,
            reports_promises.sla_event.c.at < T0 + DAY,
        )
        .order_by(reports_promises.sla_event.c.at, reports_promises.sla_event.c.id)
    )
    async with office.db.reading() as conn:
        if office.db.dialect == "postgresql":
            await conn.exec_driver_sql("set local enable_seqscan = off")
        text = str(statement.compile(conn.engine.sync_engine, compile_kwargs={"literal_binds": True}))
        how = "explain query plan" if office.db.dialect == "sqlite" else "explain"
        plan = str((await conn.exec_driver_sql(f"{how} {text}")).all())
    assert "ix_sla_event_decided" in plan
