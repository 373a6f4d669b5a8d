"""The whole story on both forms: four channels in, tickets and leads to the right people under SLA, a callback kept.

Told through the public surface: the agents' API and feed, the chat protocol, the fake providers.
"""

import base64
import hashlib
import hmac
import json
import smtplib
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from crm_core.call_state import MISSED_GRACE_MS
from crm_core.clock import MINUTE, SECOND, SystemClock, from_iso, to_iso
from crm_core.db.uow import UnitOfWork
from switchboard.demo.people import ANNA, DOMAIN, OKSANA, OUR_NUMBER, SUPPORT_ADDRESS, VIKTOR
from tests.e2e.bureau import Bureau, bureau, forget_skill
from tests.e2e.colleague import Colleague, Refused
from tests.e2e.customers import Correspondent, Visitor
from tests.e2e.waiting import until
from tests.fakes.pbx import CallScript

TEAM = ("maria", "pavlo", "sofia", "olena", "dmytro")


def next_monday_morning() -> int:
    """Ten o'clock of the next Monday in Kyiv: everybody works, and anybody may be called."""
    now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC).astimezone(ZoneInfo("Europe/Kyiv"))
    day = (now + timedelta(days=7 - now.weekday())).replace(hour=10, minute=0, second=0, microsecond=0)
    return round(day.timestamp() * 1000)


async def only_two_speak_russian(uow: UnitOfWork) -> None:
    await forget_skill(uow, "pavlo", "lang:ru")


@dataclass
class Story:
    """What the chapters know of each other."""

    at: Bureau
    chief: Colleague
    people: dict[str, Colleague] = field(default_factory=dict)
    telegram: int = 0
    email: int = 0
    lead: int = 0
    chat: int = 0

    async def everybody_online(self) -> None:
        for who in self.people.values():
            await who.be("online")

    def of(self, agent_id: int) -> Colleague:
        return next(who for who in self.people.values() if who.id == agent_id)

    async def clock(self, inquiry_id: int, metric: str) -> dict[str, Any]:
        found = (await self.chief.get(f"/sla/clocks?inquiry_id={inquiry_id}"))["items"]
        clocks = [c for c in found if c["metric"] == metric]
        assert len(clocks) == 1, found
        return dict(clocks[0])


@pytest.fixture
async def story(
    form: str, tmp_path: Path, new_database: Callable[[str], str], redis_url: Callable[[], str | None]
) -> Any:
    async with (
        bureau(
            tmp_path / "bureau",
            new_database("story"),
            redis_url(),
            begins_at=next_monday_morning(),
            prepare=only_two_speak_russian,
        ) as at,
        AsyncExitStack() as stack,
    ):
        made = Story(at, await stack.enter_async_context(Colleague(at, "iryna")))
        for login in TEAM:
            made.people[login] = await stack.enter_async_context(Colleague(at, login))
        yield made


async def test_the_whole_story(story: Story) -> None:
    """One test on purpose: what one chapter leaves is what the next begins with."""
    await story.everybody_online()
    await a_telegram_message_goes_to_somebody_who_speaks_russian(story)
    await a_mail_goes_to_the_customers_manager(story)
    await a_missed_call_becomes_a_lead(story)
    async with Visitor(story.at, "james", "James Carter", "en") as james:
        await a_chat_is_offered_and_accepted(story, james)
        await there_are_three_tickets_and_one_lead(story)
        await an_answer_in_telegram_fulfils_its_clock(story)
        await an_answer_in_the_chat_is_seen_and_a_note_is_not(story, james)
    await the_same_again_changes_nothing(story)
    await bad_input_is_refused_kept_and_shown(story)
    await a_deadline_passes_exactly_and_escalates(story)
    await a_late_answer_by_mail_threads(story)
    await a_callback_is_kept_at_the_second_try(story)
    await nothing_was_lost_on_the_way(story)


# --- in -------------------------------------------------------------------------------------------------------------
async def a_telegram_message_goes_to_somebody_who_speaks_russian(story: Story) -> None:
    assert ANNA.telegram_id is not None
    anna = story.at.telegram.user(ANNA.telegram_id, "Анна", last_name="Ковалёва", language_code="ru")
    await anna.send_text("Где мой багаж? Рейс приземлился два часа назад.")
    row = await story.chief.find(channel="telegram")
    story.telegram = row["id"]
    assert (row["kind"], row["status"], row["team"]["name"]) == ("ticket", "new", "Support")
    assert (row["contact"]["name"], row["language"]) == (ANNA.name, "ru")
    offered = await _offer_of(story, row["id"])
    agent = story.of(offered["agent_id"])
    assert agent.login in ("maria", "sofia"), "Pavlo speaks no Russian here"
    await agent.heard("offer.made", lambda e: e["data"]["offer"]["id"] == offered["id"])
    assert (await agent.offer())["inquiry"]["id"] == row["id"]
    await agent.accept(offered)
    assert (await agent.accept(offered))["inquiry_id"] == row["id"], "accepting twice is the same as once"
    other = story.people["sofia" if agent.login == "maria" else "maria"]
    with pytest.raises(Refused) as late:
        await other.accept(offered)
    assert late.value.status in (403, 404, 409, 410)
    row = await story.chief.inquiry(row["id"])
    assert row["assignee"]["id"] == agent.id
    why = await story.chief.get(f"/inquiries/{row['id']}/why")
    assert why["state"] == "assigned"
    assert any(agent.login.title() in d["text"] for d in why["decisions"]), why
    assert all("Pavlo" not in d["text"] for d in why["decisions"]), why


async def a_mail_goes_to_the_customers_manager(story: Story) -> None:
    assert VIKTOR.email is not None
    viktor = Correspondent(story.at, VIKTOR.email, VIKTOR.name)
    await viktor.send(
        viktor.write("Добрый день. Пришлите, пожалуйста, закрывающие документы.", subject="Документы")
    )
    row = await story.chief.find(channel="email")
    story.email = row["id"]
    maria = story.people["maria"]
    event = await maria.heard("inquiry.assigned", lambda e: e["inquiry_id"] == row["id"])
    assert event["data"]["agent_id"] == maria.id
    row = await story.chief.inquiry(row["id"])
    assert (row["kind"], row["team"]["name"], row["subject"]) == ("ticket", "Support", "Документы")
    assert (row["contact"]["name"], row["contact"]["vip"]) == (VIKTOR.name, True)
    assert row["assignee"]["id"] == maria.id
    why = await maria.get(f"/inquiries/{row['id']}/why")
    assert why["decisions"][-1]["agent_id"] == maria.id
    assert why["decisions"][-1]["why"]["manager"]["agent_id"] == maria.id


async def a_missed_call_becomes_a_lead(story: Story) -> None:
    assert OKSANA.phone is not None
    played = await story.at.pbx.inbound_call(OKSANA.phone, OUR_NUMBER, CallScript(agent_answers=False))
    assert [d.status for d in played.deliveries] == [200] * len(played.deliveries)
    calls = await until(lambda: _items(story.chief, "/calls"), "the call")
    assert len(calls) == 1
    # For a while a late "it was answered" may still come; only then it is a missed one.
    story.at.place.advance(MISSED_GRACE_MS)
    row = await story.chief.find(channel="telephony")
    story.lead = row["id"]
    olena = story.people["olena"]
    await olena.heard("inquiry.assigned", lambda e: e["inquiry_id"] == row["id"])
    row = await olena.inquiry(row["id"])
    assert (row["kind"], row["team"]["name"], row["contact"]["name"]) == ("lead", "Sales", OKSANA.name)
    assert row["assignee"]["id"] == olena.id, "she manages this contact"
    call = (await story.chief.get("/calls"))["items"][0]
    assert (call["state"], call["disposition"], call["inquiry_id"]) == ("ended", "missed", row["id"])


async def a_chat_is_offered_and_accepted(story: Story, james: Visitor) -> None:
    ack = await james.say("Hello! Can I change the date of my flight?")
    assert (ack["seq"], ack["duplicate"]) == (1, False)
    row = await story.chief.find(channel="webchat")
    story.chat = row["id"]
    assert (row["kind"], row["team"]["name"], row["contact"]["name"]) == ("ticket", "Support", "James Carter")
    offered = await _offer_of(story, row["id"])
    agent = story.of(offered["agent_id"])
    assert agent.login in ("maria", "pavlo", "sofia")
    await agent.accept(offered)
    await until(
        lambda: [f for f in james.others if f["type"] == "agent_joined"], "word that somebody is there"
    )
    assert (await story.chief.inquiry(row["id"]))["assignee"]["id"] == agent.id


async def there_are_three_tickets_and_one_lead(story: Story) -> None:
    found = (await story.chief.get("/inquiries"))["items"]
    assert sorted((r["kind"], r["channel"]) for r in found) == [
        ("lead", "telephony"),
        ("ticket", "email"),
        ("ticket", "telegram"),
        ("ticket", "webchat"),
    ]
    assert all(r["assignee"] is not None for r in found)
    # An agent of Sales does not see what is Support's.
    mine = (await story.people["olena"].get("/inquiries"))["items"]
    assert [r["id"] for r in mine] == [story.lead]
    with pytest.raises(Refused) as hidden:
        await story.people["olena"].inquiry(story.telegram)
    assert hidden.value.status in (403, 404)


# --- out ------------------------------------------------------------------------------------------------------------
async def an_answer_in_telegram_fulfils_its_clock(story: Story) -> None:
    row = await story.chief.inquiry(story.telegram)
    agent = story.of(row["assignee"]["id"])
    before = await story.clock(story.telegram, "first_reply")
    assert (before["state"], before["fulfilled_at"]) == ("active", None)
    text = "Здравствуйте, Анна! Багаж уже в пути, привезём сегодня."
    made = await agent.say(story.telegram, text, client_id="anna-1")
    again = await agent.say(story.telegram, text, client_id="anna-1")
    assert again["id"] == made["id"]
    arrived = await story.at.telegram.wait_for(lambda m: m.text == text, 60)
    assert arrived.chat_id == ANNA.telegram_id
    message = await until(lambda: _in_state(agent, story.telegram, made["id"], "sent"), "the reply sent")
    clock = await until(
        lambda: _clock_in(story, story.telegram, "first_reply", "fulfilled"), "the clock fulfilled"
    )
    assert clock["fulfilled_at"] == message["sent_at"]
    assert clock["breached_at"] is None
    await story.chief.heard("sla.fulfilled", lambda e: e["inquiry_id"] == story.telegram)
    await agent.patch(f"/inquiries/{story.telegram}", status="solved")
    # What was sent once stays once, whatever is still to come in this story.
    assert [m.text for m in story.at.telegram.sent].count(text) == 1


async def an_answer_in_the_chat_is_seen_and_a_note_is_not(story: Story, james: Visitor) -> None:
    agent = story.of((await story.chief.inquiry(story.chat))["assignee"]["id"])
    await agent.say(story.chat, "He flew with us last year too", internal=True)
    await agent.say(story.chat, "Sure, which date suits you?")
    await until(lambda: james.answers, "the answer at the visitor")
    await james.say("Friday, please")
    await until(lambda: len(james.seen) >= 3, "his own words come back to him")
    assert james.answers == ["Sure, which date suits you?"]
    assert "flew with us" not in json.dumps(list(james.seen.values()) + james.others)
    await agent.heard("message.added", lambda e: e["data"]["message"]["text"] == "Friday, please")
    thread = await agent.thread(story.chat)
    assert [m["seq"] for m in thread] == list(range(1, len(thread) + 1))
    said = [(m["direction"], m["kind"]) for m in thread if m["kind"] in ("text", "note")]
    assert said == [("in", "text"), ("internal", "note"), ("out", "text"), ("in", "text")]
    await agent.patch(f"/inquiries/{story.chat}", status="solved")


# --- again, and wrong -----------------------------------------------------------------------------------------------
async def the_same_again_changes_nothing(story: Story) -> None:
    """A provider repeats: the same update, and the same message in an update of another number."""
    at = story.at
    assert ANNA.telegram_id is not None
    anna = at.telegram.user(ANNA.telegram_id)
    message = await anna.send_text("Спасибо!")
    texts = await until(lambda: _texts_with(story, story.telegram, "Спасибо!"), "her thanks in the thread")
    update_id = await at.telegram.push("message", message, lane=anna.id)
    body = json.dumps({"update_id": update_id, "message": message}).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Telegram-Bot-Api-Secret-Token": at.inboxes["telegram"]["secret"],
    }
    for _ in range(2):
        async with at.http.post(at.hook("telegram"), data=body, headers=headers) as answer:
            assert answer.status == 200
    delivered = at.pbx.deliveries[-1].post
    async with at.http.post(delivered.url, data=delivered.body, headers=delivered.headers) as answer:
        assert answer.status == 200
    await until(lambda: _nothing_waits(story), "all raw rows processed")
    assert await _texts_with(story, story.telegram, "Спасибо!") == texts
    assert texts.count("Спасибо!") == 1
    assert len((await story.chief.get("/calls"))["items"]) == 1
    assert (await story.chief.inquiry(story.lead))["fields"]["missed_calls"] == 1


async def bad_input_is_refused_kept_and_shown(story: Story) -> None:
    at, chief = story.at, story.chief
    telegram, phone = at.inboxes["telegram"], at.inboxes["telephony"]
    right = {"X-Telegram-Bot-Api-Secret-Token": telegram["secret"], "Content-Type": "application/json"}
    wrong = {**right, "X-Telegram-Bot-Api-Secret-Token": "geheim-ü".encode().decode("latin-1")}
    async with at.http.post(at.hook("telegram"), data=b'{"update_id": 1}', headers=wrong) as answer:
        assert answer.status == 401
    async with at.http.post(
        at.hook("telephony"), data=b'{"call_id": "x"}', headers={"X-Signature": "no"}
    ) as answer:
        assert answer.status == 401
        told = await answer.json()
        assert told["ok"] is False and "signature" in told["error"], "a PBX is answered in its own form"
    garbage = b"\xff\xfe this is no JSON"
    async with at.http.post(
        at.hook("telephony"), data=garbage, headers=_signed(phone["secret"], garbage)
    ) as answer:
        assert answer.status == 400
        assert (await answer.json())["ok"] is False
    async with at.http.post(at.hook("telegram"), data=garbage, headers=right) as answer:
        # An error would make Telegram hold back everything that this chat says next.
        assert answer.status in (200, 400)
    async with at.http.post(
        f"{at.hook('form')}/form", data=b"[1, 2", headers={"Content-Type": "application/json"}
    ) as answer:
        assert answer.status == 422
        assert (await answer.json())["ok"] is False, "the form's page gets its own form of answer"
    async with at.http.post(f"{at.url}/hooks/nobody-has-this", data=b"{}") as answer:
        assert answer.status == 404
    stranger = Correspondent(at, "stranger@mail.test", "Stranger")
    with pytest.raises(smtplib.SMTPException):
        await stranger.send(stranger.write("?", subject="?"), to=f"nobody@{DOMAIN}")
    async with Visitor(at, "noise", "Noise") as noise:
        await noise.send_frame("{{{")
        await noise.send_frame({"type": "message", "client_id": "n", "text": 5})
        await noise.send_frame({"type": "fly"})
        await until(
            lambda: sum(f["type"] == "error" for f in noise.others) >= 3, "an error for each broken frame"
        )
    with pytest.raises(Refused) as bad:
        await chief.post("/callbacks", inquiry_id="seven", window_start="soon")
    assert bad.value.status == 422
    assert {e["loc"][-1] for e in bad.value.problem["errors"]} == {"inquiry_id", "window_start"}

    async def kept() -> list[dict[str, Any]]:
        rows = (await chief.get("/inbound?state=quarantined"))["items"]
        return rows if len(rows) >= 5 else []

    rows = await until(kept, "everything refused is visible")
    unproven = [r for r in rows if r["error"].startswith("not proven")]
    assert sorted(r["inbox_id"] for r in unproven) == sorted([telegram["id"], phone["id"]])
    shown = await chief.get(f"/inbound/{unproven[0]['id']}")
    assert shown["body"] in ('{"update_id": 1}', '{"call_id": "x"}')
    await chief.heard("inbound.quarantined", lambda e: e["subject"]["id"] == unproven[0]["id"])
    broken = [r for r in rows if r["inbox_id"] == phone["id"] and r not in unproven]
    found = await chief.get(f"/inbound/{broken[0]['id']}")
    assert base64.b64decode(found["body"]) == garbage
    with pytest.raises(Refused) as forbidden:
        await story.people["maria"].get("/inbound")
    assert forbidden.value.status == 403
    for row in rows:
        await chief.post(f"/inbound/{row['id']}/discard")
    assert len((await chief.get("/inquiries"))["items"]) == 4, "none of it became a request"


# --- time -----------------------------------------------------------------------------------------------------------
async def a_deadline_passes_exactly_and_escalates(story: Story) -> None:
    at, chief = story.at, story.chief
    clock = await story.clock(story.email, "first_reply")
    breach_at = from_iso(clock["breach_at"])
    row = await chief.inquiry(story.email)
    assert row["priority"] == "normal"
    assert breach_at - from_iso(row["created_at"]) == 15 * MINUTE, "the VIP policy's target"
    at.set_clock(breach_at - MINUTE)
    await story.everybody_online()
    await chief.heard("sla.warned", lambda e: e["inquiry_id"] == story.email)
    clock = await story.clock(story.email, "first_reply")
    assert clock["breached_at"] is None or at.now() > breach_at
    at.set_clock(breach_at + SECOND)
    await story.everybody_online()
    event = await chief.heard("sla.breached", lambda e: e["inquiry_id"] == story.email)
    assert event["data"]["metric"] == "first_reply"
    clock = await story.clock(story.email, "first_reply")
    assert clock["breached_at"] == clock["breach_at"] == to_iso(breach_at)
    assert clock["state"] == "active", "late is not done"
    await until(
        lambda: _priority_is(story, story.email, "high"), "the step of the policy raised the priority"
    )
    late = (await chief.get("/sla/clocks?breached=true"))["items"]
    assert [c["inquiry_id"] for c in late] == [story.email]
    wall = await chief.get("/wall")
    assert [b["inquiry"]["id"] for b in wall["breaches"]] == [story.email]
    told = [e for e in chief.events if e["kind"] == "sla.breached"]
    assert len(told) == 1
    # An answer that comes late fulfils the clock, and it stays a breach.
    assert (await chief.inquiry(story.email))["assignee"]["id"] == story.people["maria"].id


async def a_late_answer_by_mail_threads(story: Story) -> None:
    at, maria = story.at, story.people["maria"]
    made = await maria.say(story.email, "Добрый день! Документы отправлены курьером.")
    await until(lambda: _in_state(maria, story.email, made["id"], "sent"), "the mail sent")
    [mail] = [m for m in at.mails() if m["To"] and VIKTOR.email in m["To"]]
    assert "Документы отправлены курьером." in mail.get_content()
    clock = await until(
        lambda: _clock_in(story, story.email, "first_reply", "fulfilled"), "the clock fulfilled"
    )
    ledger = await story.chief.get(f"/sla/clocks/{clock['id']}/events")
    assert clock["breached_at"] is not None and clock["breached_at"] < clock["fulfilled_at"], ledger
    assert VIKTOR.email is not None
    viktor = Correspondent(
        at, VIKTOR.email, VIKTOR.name, ids=[mail["References"].split()[-1], mail["Message-ID"]]
    )
    viktor._numbers = iter(range(100, 200))  # type: ignore[assignment]
    back = mail["Reply-To"] or mail["From"]
    address = back.rpartition("<")[2].rstrip(">") or SUPPORT_ADDRESS
    await viktor.send(
        viktor.write("Спасибо, получили.", subject=f"Re: {mail['Subject']}", to=address), to=address
    )
    await until(
        lambda: _texts_with(story, story.email, "Спасибо, получили."), "his answer in the same thread"
    )
    thread = await maria.thread(story.email)
    assert [(m["seq"], m["direction"]) for m in thread if m["kind"] == "text"] == [
        (1, "in"),
        (2, "out"),
        (3, "in"),
    ]
    assert len((await story.chief.get("/inquiries?channel=email"))["items"]) == 1
    await maria.patch(f"/inquiries/{story.email}", status="solved")


async def a_callback_is_kept_at_the_second_try(story: Story) -> None:
    at, olena = story.at, story.people["olena"]
    due_at = at.now() + 20 * MINUTE
    booked = await olena.post(
        "/callbacks",
        inquiry_id=story.lead,
        window_start=to_iso(due_at),
        window_end=to_iso(due_at + 40 * MINUTE),
        note="about the tour to Lviv",
    )
    assert (booked["state"], booked["phone"], booked["due_at"]) == ("scheduled", OKSANA.phone, to_iso(due_at))
    assert booked["owner"]["id"] == olena.id
    await story.chief.heard("callback.booked", lambda e: e["subject"]["id"] == booked["id"])
    assert at.pbx.originated == []

    command = await _dialled(story, olena, booked["id"], due_at, n=1)
    assert (command.to, command.agent_ext, command.customer_first) == (OKSANA.phone, "101", False)
    await at.pbx.play_originated(command, CallScript(customer="no_answer", ring_s=2))
    row = await until(lambda: _callback_in(olena, booked["id"], "scheduled"), "the callback planned again")
    assert [(a["n"], a["outcome"], a["agent"]["id"]) for a in row["attempts"]] == [(1, "no_answer", olena.id)]
    again_at = from_iso(row["next_attempt_at"])
    tried = await story.chief.heard("callback.attempted", lambda e: e["subject"]["id"] == booked["id"])
    assert tried["data"]["outcome"] == "no_answer"
    assert 24 * MINUTE <= again_at - from_iso(tried["at"]) <= 36 * MINUTE, "half an hour, spread by a fifth"

    command = await _dialled(story, olena, booked["id"], again_at, n=2)
    assert command.correlation_id != at.pbx.originated[0].correlation_id
    await at.pbx.play_originated(command, CallScript(customer="answer", ring_s=2, talk_s=20))
    row = await until(lambda: _callback_in(olena, booked["id"], "done"), "the callback kept")
    assert (row["outcome"], row["next_attempt_at"], row["escalated_at"]) == ("answered", None, None)
    assert [a["outcome"] for a in row["attempts"]] == ["no_answer", "answered"]
    await story.chief.heard("callback.kept", lambda e: e["subject"]["id"] == booked["id"])
    calls = (await story.chief.get("/calls"))["items"]
    assert sorted((c["direction"], c["disposition"]) for c in calls) == [
        ("inbound", "missed"),
        ("outbound", "answered"),
        ("outbound", "no_answer"),
    ]
    assert {a["call_id"] for a in row["attempts"]} == {c["id"] for c in calls if c["direction"] == "outbound"}


async def nothing_was_lost_on_the_way(story: Story) -> None:
    await until(lambda: _nothing_waits(story), "all raw rows processed")
    found = (await story.chief.get("/inquiries"))["items"]
    assert sorted((r["kind"], r["channel"]) for r in found) == [
        ("lead", "telephony"),
        ("ticket", "email"),
        ("ticket", "telegram"),
        ("ticket", "webchat"),
    ]
    async with Colleague(story.at, "admin", feed=False) as admin:
        assert (await admin.get("/jobs?state=dead"))["items"] == []
    alarms = [e["data"] for e in story.chief.events if e["kind"] == "alarm.raised"]
    assert alarms == []
    codes = story.at.place.stop()
    assert codes == [0] * len(codes), "every process ends in order"


# --- asking ---------------------------------------------------------------------------------------------------------
async def _dialled(story: Story, owner: Colleague, callback_id: int, due_at: int, *, n: int) -> Any:
    """Let the callback become due; its owner is offered it, accepts and dials, and the PBX gets the n-th command."""
    at = story.at
    at.set_clock(due_at - SECOND)
    await story.everybody_online()
    due = await until(
        lambda: [e for e in story.chief.events if e["kind"] == "callback.due"][n - 1 :],
        f"callback.due, time {n}",
    )
    assert from_iso(due[0]["at"]) >= due_at, "never before its time"
    offered = await owner.offer(lambda o: o["callback"] is not None)
    assert offered["callback"]["id"] == callback_id
    await owner.accept(offered)
    # He has the card; the telephone rings when he says so.
    await owner.post(f"/callbacks/{callback_id}/dial")
    await until(lambda: len(at.pbx.originated) == n, "the command to dial")
    assert at.pbx.refused == []
    return at.pbx.originated[-1]


async def _offer_of(story: Story, inquiry_id: int) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        items = (await story.chief.get("/offers"))["items"]
        return next((o for o in items if o["inquiry_id"] == inquiry_id), None)

    found: dict[str, Any] = await until(look, f"an offer of inquiry {inquiry_id}")
    return found


async def _items(who: Colleague, path: str) -> list[dict[str, Any]]:
    return list((await who.get(path))["items"])


async def _in_state(who: Colleague, inquiry_id: int, message_id: int, state: str) -> dict[str, Any] | None:
    return next(
        (m for m in await who.thread(inquiry_id) if m["id"] == message_id and m["state"] == state), None
    )


async def _clock_in(story: Story, inquiry_id: int, metric: str, state: str) -> dict[str, Any] | None:
    clock = await story.clock(inquiry_id, metric)
    return clock if clock["state"] == state else None


async def _callback_in(who: Colleague, callback_id: int, state: str) -> dict[str, Any] | None:
    row: dict[str, Any] = await who.get(f"/callbacks/{callback_id}")
    return row if row["state"] == state else None


async def _priority_is(story: Story, inquiry_id: int, priority: str) -> bool:
    return bool((await story.chief.inquiry(inquiry_id))["priority"] == priority)


async def _texts_with(story: Story, inquiry_id: int, text: str) -> list[str]:
    """All texts of the thread, once `text` is among them."""
    texts = [m["text"].strip() for m in await story.chief.thread(inquiry_id)]
    return texts if text in texts else []


async def _nothing_waits(story: Story) -> bool:
    waiting = (await story.chief.get("/inbound?state=received"))["items"]
    return not waiting and not story.at.telegram.pending


def _signed(secret: str, body: bytes) -> dict[str, str]:
    mac = hmac.new(secret.encode(), body, hashlib.sha256).digest()
    return {
        "X-Signature": base64.urlsafe_b64encode(mac).rstrip(b"=").decode(),
        "Content-Type": "application/json",
    }
