"""Tickets and leads over HTTP: who sees what, pages without gaps, changes, messages once."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event as sa_event
from sqlalchemy import select

from crm_core import intake
from crm_core.envelope import Envelope, IdentityClaim, IdentityKind, Kind, Sender
from crm_core.schema import idempotency, inbox, job
from tests.api.conftest import Desk


async def write(desk: Desk, inbox_key: str, who: str, text: str, number: int = 1) -> dict[str, Any]:
    """A customer's message, taken in."""
    async with desk.db.transaction() as uow:
        account = await uow.row(select(inbox).where(inbox.c.key == inbox_key))
        result = await intake.receive(
            uow,
            account,
            Envelope(
                kind=Kind.MESSAGE,
                dedupe_key=f"{who}{number}",
                conversation_key=who,
                occurred_at=uow.now,
                text=text,
                provider_message_id=f"{who}:{number}",
                sender=Sender(
                    identities=(IdentityClaim(IdentityKind.TELEGRAM, who, verified=True),),
                    display_name=who.title(),
                ),
            ),
        )
    return dict(result.inquiry or {})


@pytest.fixture
async def inboxes(desk: Desk) -> Desk:
    await desk.add_inbox("help", "telegram", team_id=desk.teams["support"])
    await desk.add_inbox("sell", "telegram", team_id=desk.teams["sales"], default_kind="lead")
    await desk.add_inbox("open", "telegram")
    return desk


async def test_agents_see_their_teams_and_supervisors_see_all(inboxes: Desk):
    ours = await write(inboxes, "help", "ira", "My visa")
    theirs = await write(inboxes, "sell", "oleh", "A tour")
    nobodys = await write(inboxes, "open", "max", "Hello")
    anna, sofia = await inboxes.client("anna"), await inboxes.client("sofia")
    listed = await (await anna.get("/api/v1/inquiries")).json()
    assert {i["id"] for i in listed["items"]} == {ours["id"], nobodys["id"]}
    assert listed["next"] is None
    assert (await anna.get(f"/api/v1/inquiries/{theirs['id']}")).status == 404
    assert (await anna.patch(f"/api/v1/inquiries/{theirs['id']}", json={"priority": "low"})).status == 404
    assert (await anna.get(f"/api/v1/inquiries/{theirs['id']}/messages")).status == 404
    seen = await (await sofia.get(f"/api/v1/inquiries/{theirs['id']}")).json()
    assert (seen["kind"], seen["stage"], seen["contact"]["name"], seen["team"]["name"]) == (
        "lead",
        "new",
        "Oleh",
        "sales",
    )
    assert seen["unread"] is True and seen["last_message"]["text"] == "A tour"
    by_number = await (await sofia.get(f"/api/v1/inquiries/by-number/{seen['number']}")).json()
    assert by_number["id"] == theirs["id"]


async def test_pages_meet_without_gap_or_double_and_cost_the_same(inboxes: Desk):
    for number in range(7):
        await write(inboxes, "help", f"person{number}", f"Question {number}")
    anna = await inboxes.client("anna")
    counted = 0

    def count(_conn: Any, _cursor: Any, statement: str, *_: Any) -> None:
        nonlocal counted
        # The feed's reader polls beside us.
        counted += statement.startswith("SELECT") and "FROM event" not in statement

    # What is the same for all pages (the rules of promises) is read once.
    await anna.get("/api/v1/inquiries")
    sa_event.listen(inboxes.db._read_engine.sync_engine, "before_cursor_execute", count)
    for sort in ("-updated_at", "due_at"):
        seen: list[int] = []
        cursor, costs = "", []
        while cursor is not None:
            before = counted
            page = await (
                await anna.get(
                    "/api/v1/inquiries",
                    params={"limit": 3, "sort": sort, **({"cursor": cursor} if cursor else {})},
                )
            ).json()
            costs.append(counted - before)
            seen += [i["id"] for i in page["items"]]
            cursor = page["next"]
        assert len(seen) == len(set(seen)) == 7
        assert len(set(costs)) == 1 and costs[0] <= 6, costs
    for bad in ("x", "W10", "WzFd", "WyJhIiwyXQ", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5LDFd"):
        answer = await anna.get("/api/v1/inquiries", params={"cursor": bad})
        assert answer.status == 422 and (await answer.json())["code"] == "bad_cursor"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("kind=lead", ["sell"]),
        ("kind=ticket", ["help", "open"]),
        ("status=solved", []),
        ("status=new,open", ["help", "open", "sell"]),
        ("status=new&status=hold", ["help", "open", "sell"]),
        ("assignee_id=none", ["help", "open", "sell"]),
        ("assignee_id=me", []),
        ("channel=email", []),
        ("q=visa", ["help"]),
        ("q=VIS", ["help"]),
        ("q=nothing+such", []),
        ("q=%25", []),
        ("q=%23{help}", ["help"]),
    ],
)
async def test_filters(inboxes: Desk, query: str, expected: list[str]):
    made = {
        "help": await write(inboxes, "help", "ira", "My visa"),
        "sell": await write(inboxes, "sell", "oleh", "A tour"),
        "open": await write(inboxes, "open", "max", "Hello"),
    }
    sofia = await inboxes.client("sofia")
    asked = query.replace("{help}", str(made["help"]["id"] + 1000))
    items = (await (await sofia.get(f"/api/v1/inquiries?{asked}")).json())["items"]
    assert sorted(i["id"] for i in items) == sorted(made[key]["id"] for key in expected)


@pytest.mark.parametrize(
    "query",
    [
        "status=nope",
        "limit=0",
        "limit=201",
        "limit=x",
        "kind=",
        "assignee_id=you",
        "typo=1",
        "team_id=99999999999999999999",
        "team_id=-1",
        "q=%00",
        "sort=name",
        "limit=1&limit=2",
    ],
)
async def test_wrong_filters_are_named(inboxes: Desk, query: str):
    answer = await (await inboxes.client("anna")).get(f"/api/v1/inquiries?{query}")
    assert answer.status == 422 and answer.content_type == "application/problem+json"


async def test_a_change_needs_the_version_it_was_made_on(inboxes: Desk):
    one = await write(inboxes, "help", "ira", "My visa")
    anna = await inboxes.client("anna")
    path = f"/api/v1/inquiries/{one['id']}"
    done = await (await anna.patch(path, json={"priority": "urgent", "tags": ["visa"], "version": 1})).json()
    assert (done["priority"], done["tags"], done["version"]) == ("urgent", ["visa"], 2)
    late = await anna.patch(path, json={"priority": "low", "version": 1})
    assert late.status == 409 and (await late.json())["code"] == "version_mismatch"
    lead = await (
        await anna.patch(path, json={"kind": "lead", "value_minor": 150_000, "currency": "EUR"})
    ).json()
    assert (lead["kind"], lead["stage"], lead["number"]) == ("lead", "new", one["id"] + 1000)
    for bad in (
        {"priority": None},
        {"priority": 5},
        {"nope": 1},
        {"team_id": 10**6},
        {"assignee_id": 10**6},
        {"version": "2"},
        {"currency": "eur"},
        {"value_minor": 2**63},
        {"tags": ["\x00"]},
        {"snooze_until": 0},
        {"status": "done"},
    ):
        answer = await anna.patch(path, json=bad)
        assert answer.status == 422, bad
    assert (
        await anna.patch(path, data=b"priority=low", headers={"Content-Type": "text/plain"})
    ).status == 415


async def test_a_reply_is_queued_once_and_a_note_goes_nowhere(inboxes: Desk):
    one = await write(inboxes, "help", "ira", "My visa")
    anna = await inboxes.client("anna")
    path = f"/api/v1/inquiries/{one['id']}/messages"
    body = {"text": "We are looking into it", "client_id": "3f1c", "status_after": "pending"}
    first, twin = await asyncio.gather(anna.post(path, json=body), anna.post(path, json=body))
    assert sorted((first.status, twin.status)) == [200, 201]
    assert (await first.json())["id"] == (await twin.json())["id"]
    note = await (
        await anna.post(path, json={"text": "He is a VIP", "client_id": "n1", "internal": True})
    ).json()
    assert (note["direction"], note["kind"]) == ("internal", "note")
    thread = (await (await anna.get(path)).json())["items"]
    assert [(m["seq"], m["direction"], m["state"]) for m in thread] == [
        (1, "in", "received"),
        (2, "out", "queued"),
        (3, "internal", "received"),
    ]
    assert [m["seq"] for m in (await (await anna.get(path + "?after_seq=2")).json())["items"]] == [3]
    assert [m["seq"] for m in (await (await anna.get(path + "?before_seq=3&limit=1")).json())["items"]] == [2]
    async with inboxes.db.reading() as conn:
        jobs = (await conn.execute(select(job.c.name))).scalars().all()
    assert jobs.count("message.deliver") == 1
    shown = await (await anna.get(f"/api/v1/inquiries/{one['id']}")).json()
    assert shown["status"] == "pending" and shown["unread"] is False
    for bad in (
        {"text": " ", "client_id": "c"},
        {"text": "x", "client_id": "c", "reply_to_id": 10**9},
        {"text": "x", "client_id": "c", "attachments": ["nope"]},
        {"text": "x", "client_id": "bad id"},
        {"text": "x", "client_id": "c", "internal": "yes"},
        {"text": "x" * 100_001, "client_id": "c"},
    ):
        assert (await anna.post(path, json=bad)).status == 422, bad


async def test_the_same_idempotency_key_has_one_effect(inboxes: Desk):
    anna = await inboxes.client("anna")
    body = {
        "kind": "lead",
        "subject": "Called by phone",
        "contact": {"name": "Ira", "phone": "050 123-45-67"},
    }
    headers = {"Idempotency-Key": "k1"}
    answers = await asyncio.gather(
        *(anna.post("/api/v1/inquiries", json=body, headers=headers) for _ in range(4))
    )
    assert {a.status for a in answers} <= {201, 409} and 201 in {a.status for a in answers}
    again = await anna.post("/api/v1/inquiries", json=body, headers=headers)
    assert again.status == 201 and again.headers["Idempotency-Replayed"] == "true"
    assert len((await (await anna.get("/api/v1/inquiries")).json())["items"]) == 1
    other = await anna.post("/api/v1/inquiries", json={**body, "subject": "Another"}, headers=headers)
    assert other.status == 422 and (await other.json())["code"] == "idempotency_mismatch"
    wrong = await anna.post(
        "/api/v1/inquiries", json={**body, "contact_id": 10**9}, headers={"Idempotency-Key": "k2"}
    )
    assert wrong.status == 422
    right = await anna.post("/api/v1/inquiries", json=body, headers={"Idempotency-Key": "k2"})
    assert right.status == 201
    boris = await inboxes.client("boris")
    assert (
        await boris.post("/api/v1/inquiries", json={**body, "subject": "B"}, headers=headers)
    ).status == 201


async def test_a_request_at_work_answers_its_twin_with_409_and_a_dead_one_is_taken_over(
    inboxes: Desk, clock: Any
):
    clock.set(1_800_000_000_000)
    anna = await inboxes.client("anna")
    body = {"kind": "ticket", "subject": "S", "contact": {"name": "Ira"}}
    headers = {"Idempotency-Key": "k1"}
    assert (await anna.post("/api/v1/inquiries", json=body, headers=headers)).status == 201
    async with inboxes.db.transaction() as uow:
        await uow.execute(idempotency.update().values(status=None, body=None, created_at=uow.now))
    twin = await anna.post("/api/v1/inquiries", json=body, headers=headers)
    assert twin.status == 409 and (await twin.json())["code"] == "idempotency_conflict"
    clock.advance(61_000)
    assert (await anna.post("/api/v1/inquiries", json=body, headers=headers)).status == 201
    async with inboxes.db.reading() as conn:
        assert (await conn.execute(select(idempotency.c.status))).scalars().all() == [201]
