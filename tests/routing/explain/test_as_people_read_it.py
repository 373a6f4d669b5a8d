"""What a stranger found when reading the explanations of a running installation: each says what is true, and all of it."""

from typing import Any

import pytest
from sqlalchemy import insert, update

from crm_core.clock import HOUR, MINUTE
from crm_core.db.engine import Database
from crm_core.schema import agent_skill, inquiry
from routing import assignments, configuration, explain, items, offers, sweep
from routing.configuration_values import as_json, unknown_key
from routing.eligibility import availability_failure
from routing.explain_text import decision_text, key_texts
from routing.model import AgentView, Channel, Item, Reason, Requirements, Slot
from routing.settings import DEFAULTS, parse
from routing.settings_fields import SettingsError
from routing.steps import plan
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0


@pytest.fixture(autouse=True)
def clock(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


async def why(db: Database, inquiry_id: int, language: str = "en") -> dict[str, Any]:
    async with db.reading() as conn:
        return await explain.why(conn, inquiry_id, language, now=db.clock.now_ms())


def scopes(settings: dict[str, Any] | None = None, **facts: Any) -> list[str]:
    item = Item(
        id=1, source_kind="inquiry", source_id=1, channel=Channel.CHAT, team_id=1, ready_at=T0, **facts
    )
    return [s.scope for s in plan(item, parse(settings or {}))]


def test_a_ring_is_called_by_what_it_asks_for() -> None:
    """Without other teams nobody waits for one; with nothing to lower nothing is lowered."""
    hard = Requirements(required={"lang:uk": 1}, hard=frozenset({"lang:uk"}))
    visa = Requirements(required={"visa": 3})
    assert scopes() == ["required"]
    assert scopes(requirements=hard) == ["required"]
    assert scopes({"overflow": [2]}, requirements=hard) == ["required", "overflow"]
    assert scopes(requirements=visa) == ["required", "relaxed"]
    assert scopes({"overflow": [2]}, requirements=visa) == ["required", "relaxed", "overflow"]
    assert scopes(requirements=Requirements(preferred={"visa": 3})) == ["preferred", "required"]
    assert scopes({"steps": [{"scope": "overflow"}]}) == ["required"]


def test_what_is_over_is_said_as_past_and_hours_have_minutes() -> None:
    item = Item(
        id=1, source_kind="inquiry", source_id=1, channel=Channel.CHAT,
        order_parts={"metric": "max_wait", "target_at": T0, "boost_ms": 0, "vip_boost_ms": 0},
    )  # fmt: skip

    def said(now: int, language: str) -> str:
        return str(key_texts(item, now, language)[0]["text"])

    assert said(T0 - 4 * HOUR + 1, "en") == "the longest wait allowed ends in 3 h 59 min"
    assert said(T0 - HOUR, "en") == "the longest wait allowed ends in 1 h"
    assert said(T0 + 20 * MINUTE, "en") == "the longest wait allowed ended 20 min ago"
    assert said(T0 + 20 * MINUTE, "uk") == "найдовше дозволене очікування минуло 20 хв тому"
    assert said(T0 + 20 * MINUTE, "ru") == "самое долгое допустимое ожидание истекло 20 мин назад"


async def test_who_has_the_offer_is_named_and_is_not_called_free_or_full(db: Database) -> None:
    team = await desk.a_team(db, settings={"channels": {"chat": {"max": 1}}})
    olena = await desk.an_agent(db, "Olena", team)
    item = await desk.arrives(db, team_id=team, channel="webchat")
    found = await why(db, item.source_id)
    assert found["text"] == "Offered, waiting for the answer. Olena: offered, 25 s left."
    assert found["waiting"]["agents"] == [
        {
            "agent": {"id": olena, "name": "Olena"},
            "reason": "offered",
            "text": "has the offer now",
            "lacks": None,
        }
    ]


async def test_the_skill_that_is_missing_is_named(db: Database) -> None:
    team = await desk.a_team(db)
    low = await desk.an_agent(db, "Low", team, skills={"product:visa": 2, "lang:uk": 5})
    none = await desk.an_agent(db, "None", team, skills={"lang:uk": 5})
    mute = await desk.an_agent(db, "Mute", team, skills={"product:visa": 5})
    item = await desk.arrives(
        db, team_id=team, language="uk", requirements={"product:visa": {"level": 3, "hard": True}}
    )
    said = {a["agent"]["id"]: a for a in (await why(db, item.source_id, "uk"))["waiting"]["agents"]}
    assert said[low]["text"] == "рівень навички нижчий за потрібний: visa (2 < 3)"
    assert said[low]["lacks"] == {"skill": "product:visa", "level": 2, "wanted": 3}
    assert said[none]["text"] == "бракує потрібної навички: visa (3)"
    assert said[mute]["text"] == "бракує потрібної навички: українська (1)"


async def test_while_it_is_kept_for_the_manager_others_are_not_asked_yet(db: Database) -> None:
    team = await desk.a_team(db, settings={"channels": {"chat": {"max": 1}}})
    petro = await desk.an_agent(db, "Petro", team)
    await desk.arrives(db, team_id=team, channel="webchat")
    await desk.an_agent(db, "Olena", team)
    person = await desk.a_contact(db, manager_id=petro)
    item = await desk.arrives(db, team_id=team, channel="webchat", contact_id=person)
    found = await why(db, item.source_id)
    waiting = found["waiting"]
    assert {a["agent"]["name"]: a["text"] for a in waiting["agents"]} == {
        "Olena": "not asked yet",
        "Petro": "has no free place",
    }
    assert waiting["rings"][1]["opens_at"] == waiting["widens_at"], "not an instant that is past"
    assert (
        found["decisions"][-1]["text"] == "Waits for the contact's manager. Manager Petro: has no free place."
    )


async def test_nobody_could_take_what_is_parked(db: Database) -> None:
    from routing.schema import calendar

    async with db.transaction() as uow:
        spec = {"tz": "Europe/Kyiv", "week": {"mon": [["09:00", "10:00"]]}}
        calendar_id = await uow.insert(
            calendar, {"name": "Short", "spec": spec, "version": 1, "updated_at": uow.now}
        )
    team = await desk.a_team(db, calendar_id=calendar_id)
    await desk.an_agent(db, "Olena", team)
    item = await desk.arrives(db, team_id=team)
    (only,) = (await why(db, item.source_id))["waiting"]["agents"]
    assert (only["reason"], only["text"]) == ("team_closed", "its team is closed")


async def test_a_transfer_says_to_whom_and_shows_him(db: Database) -> None:
    team, other = await desk.a_team(db), await desk.a_team(db, "Sales")
    olena = await desk.an_agent(db, "Olena", team)
    item = await desk.arrives(db, team_id=team, channel="webchat")
    async with db.transaction() as uow:
        (made,) = await desk.open_offers(db, item.id)
        await offers.accept(uow, made["id"], olena)
    ivan = await desk.an_agent(db, "Ivan", other)
    async with db.transaction() as uow:
        await assignments.transfer(uow, item.source_id, actor=f"agent:{olena}", to_agent_id=ivan)
    waiting = (await why(db, item.source_id))["waiting"]
    assert [(a["agent"]["name"], a["reason"]) for a in waiting["agents"]] == [("Ivan", "offered")]
    assert waiting["rings"][0]["agent"] == {"id": ivan, "name": "Ivan"}
    await desk.go(db, ivan, "offline")
    async with db.transaction() as uow:
        await assignments.transfer(
            uow, item.source_id, actor=f"agent:{olena}", to_team_id=other, note="a sale"
        )
    told = [d["text"] for d in (await why(db, item.source_id, "ru"))["decisions"]]
    assert "Передано команде Sales. «a sale»" in told


async def test_what_is_over_does_not_wait_any_more(db: Database) -> None:
    team = await desk.a_team(db)
    source, target = [await desk.arrives(db, team_id=team) for _ in range(2)]
    async with db.transaction() as uow:
        await items.merged(uow, source.source_id, target.source_id)
        await uow.execute(
            update(inquiry)
            .where(inquiry.c.id == source.source_id)
            .values(merged_into_id=target.source_id, status="closed")
        )
    assert (await why(db, source.source_id))["text"] == (
        f"Taken out of the queue. It was merged into #{target.source_id + 1000}."
    )
    async with db.transaction() as uow:
        await items.finish(uow, "inquiry", target.source_id, "solved")
    assert (await why(db, target.source_id))["text"] == "Taken out of the queue."


def test_words_for_what_people_and_facts_decide() -> None:
    by = {"by": "system", "winner": {"agent_id": 1, "name": "Olena"}}
    assert decision_text({**by, "trigger": "answered"}, "en") == "Olena answered the call."
    assert decision_text({**by, "trigger": "answered"}, "uk") == "На дзвінок відповідає: Olena."
    lost = {
        "trigger": "agent_lost",
        "winner": {"name": "Olena", "used": 0, "max": 4},
        "step": {"scope": "relaxed"},
    }
    assert decision_text(lost, "en").startswith("Its agent went away, so it goes on to others. Olena:")
    assert decision_text(lost, "en").endswith("By then skill levels were lowered by one.")
    nobody = {"dropped": ["lang:en", "product:visa"], "considered": 1, "step": {"scope": "required"}}
    assert decision_text(nobody, "uk").endswith(
        "Мову не вимагали: англійську у команді не знає ніхто. "
        "У команді ніхто не має навички visa, тому її не вимагали."
    )


def test_whoever_writes_up_a_call_is_not_called_busy() -> None:
    slots = {"voice": Slot(maximum=1, used=1, load=100), "chat": Slot(maximum=4)}
    agent = AgentView(
        agent_id=1, name="Olena", presence="online", routable=True, lease_until=T0 + MINUTE, load_max=100,
        load_used=100, slots=slots, wrapup_until=T0 + 1,
    )  # fmt: skip
    rules = DEFAULTS.channel("chat")
    assert availability_failure(agent, "chat", 25, rules, T0) == Reason.WRAPUP
    assert availability_failure(agent, "chat", 25, rules, T0 + 2) == Reason.INTERRUPTED_BY_NOTHING


async def test_what_is_asked_for_may_change_while_it_is_offered(db: Database) -> None:
    team = await desk.a_team(db)
    olena = await desk.an_agent(db, "Olena", team)
    await desk.an_agent(db, "Ivan", team)
    item = await desk.arrives(db, team_id=team, channel="webchat")
    async with db.transaction() as uow:
        await uow.execute(
            insert(agent_skill).values(agent_id=olena, skill="product:visa", level=3)
        )  # nobody's lanes follow: only what is asked for is looked at
        await uow.execute(
            update(inquiry).where(inquiry.c.id == item.source_id).values(requirements={"product:visa": 3})
        )
        await items.refit(uow, item.source_id)
    (made,) = await desk.open_offers(db, item.id)
    async with db.transaction() as uow:
        await offers.decline(uow, made["id"], made["agent_id"], None)
    after = await desk.the_item(db, item.id)
    assert dict(after.requirements.required) == {"product:visa": 3}
    assert await desk.open_offers(db, item.id) == [], "the other one cannot do it"


async def test_overdue_is_by_the_longest_wait_too(db: Database, clock: MovableClock) -> None:
    """A deadline in an hour does not make a chat of four minutes punctual."""
    team = await desk.a_team(db)
    for name in ("A", "B", "C"):
        await desk.an_agent(db, name, team)
    item = await desk.arrives(db, team_id=team, channel="webchat")
    async with db.transaction() as uow:
        from routing.schema import work_item

        await uow.execute(
            update(work_item).where(work_item.c.id == item.id).values(due_at=T0 + HOUR, ready_at=T0 - 4 * MINUTE,
                order_parts={"metric": "max_wait", "target_at": T0 - MINUTE, "boost_ms": 0, "vip_boost_ms": 0})
        )  # fmt: skip
    clock.advance(26_000)
    await desk.beat(db)
    await sweep.sweep_offers(db)
    assert sorted(o["kind"] for o in await desk.open_offers(db, item.id)) == ["broadcast", "broadcast"]


# --- settings
# ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"overfow": [1]}, "overfow"),
        ({"channels": {"chat": {"timeout": 3}}}, "channels.chat.timeout"),
        ({"steps": [{"scope": "required", "after": 3}]}, "steps.0.after"),
        ({"on_call": {"vips": True}}, "on_call.vips"),
    ],
)
async def test_a_typing_error_in_a_key_is_refused(db: Database, data: dict[str, Any], place: str) -> None:
    team = await desk.a_team(db)
    with pytest.raises(SettingsError) as refused:
        async with db.transaction() as uow:
            await configuration.edit(uow, team, data, actor="agent:1")
    assert refused.value.path == place
    assert unknown_key(as_json(DEFAULTS)) is None
    known = {
        "leads": {"weights": {"7": 1}},
        "channels": {"chat": {"interrupts_up_to": {"chat": 1}}},
        "callbacks": {},
    }
    assert unknown_key(known) is None
