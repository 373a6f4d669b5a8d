"""What is promised soon asks first who is not called away from it: a ring of its own, for a while, for nobody else."""

from dataclasses import replace

import pytest

from crm_core.clock import HOUR, MINUTE
from crm_core.db.engine import Database
from crm_core.events import DomainEvent
from routing import decide, listeners, steps, sweep
from routing.decide import Hours
from routing.explain_text import decision_text, waiting_text
from routing.model import AgentView, Item, LaneSpec, Requirements, Slot
from routing.reasons import of_placement
from routing.schema import decision, sla_clock
from routing.settings import DEFAULTS, parse
from tests.conftest import MovableClock
from tests.routing.engine import desk
from tests.routing.engine.desk import T0

RULES = {"near_promise": {"skill": "desk:mail", "within_s": 7200}}
NEAR = parse(RULES)
TEAM = LaneSpec("async", team_id=1)
MAIL = LaneSpec("async", team_id=1, requirements=(("desk:mail", 1),))


@pytest.fixture(autouse=True)
def frozen(clock: MovableClock) -> MovableClock:
    clock.set(T0)
    return clock


def mail(due_in: int | None, **more: object) -> Item:
    due = None if due_in is None else T0 + due_in
    facts = {
        "id": 1, "source_kind": "inquiry", "source_id": 1, "team_id": 1, "channel": "async", "due_at": due,
        "ready_at": T0, "step_entered_at": T0, "order_parts": {"target_at": T0 + 8 * HOUR},
    }  # fmt: skip
    return Item(**{**facts, **more})


def somebody(agent_id: int, *, on_mail: bool, used: int = 0, **more: object) -> AgentView:
    facts = {
        "presence": "online", "routable": True, "lease_until": T0 + 9 * HOUR, "name": f"A{agent_id}",
        "load_used": 10 * used, "slots": {"async": Slot(10, used, 10 * used)},
        "skills": {"desk:mail": 1} if on_mail else {},
        "lanes": frozenset({TEAM.signature, *([MAIL.signature] if on_mail else [])}),
    }  # fmt: skip
    return AgentView(agent_id=agent_id, **{**facts, **more})


def rings(item: Item, settings=NEAR) -> list[tuple[str, int]]:
    return [(s.scope, s.starts_at - T0) for s in steps.plan(item, settings)]


def test_a_near_promise_has_a_ring_more() -> None:
    assert rings(mail(2 * HOUR)) == [("preferred", 0), ("required", HOUR // 2)]
    assert [s.lanes for s in steps.plan(mail(2 * HOUR), NEAR)] == [(MAIL,), (TEAM,)]
    for other in (
        mail(2 * HOUR + 1),
        mail(None, order_parts={"target_at": T0 + HOUR}),
        mail(HOUR, channel="chat"),
        mail(HOUR, requirements=Requirements(required={"desk:mail": 1})),
    ):
        assert len(rings(other)) == 1
        assert steps.plan(other, NEAR) == steps.plan(other, DEFAULTS)
    assert rings(mail(HOUR), DEFAULTS) == rings(mail(None))
    by_weight = parse({**RULES, "leads": {"selector": "weighted"}})
    assert (len(rings(mail(HOUR, kind="lead"))), len(rings(mail(HOUR, kind="lead"), by_weight))) == (2, 1)


def test_who_stays_at_it_is_asked_first_and_after_a_quarter_everybody() -> None:
    on_mail, on_calls = somebody(1, on_mail=True, used=9), somebody(2, on_mail=False)

    def asked(now: int, *agents: AgentView, item: Item | None = None) -> list[int]:
        found = decide.place(item or mail(2 * HOUR), NEAR, agents, Hours(), now)
        return [r.agent.agent_id for r in found.ranks]

    assert asked(T0, on_mail, on_calls) == [1]  # the busier one
    assert asked(T0, on_mail, on_calls, item=mail(3 * HOUR)) == [2, 1]
    full = somebody(1, on_mail=True, used=10)
    waits = decide.place(mail(2 * HOUR), NEAR, [full, on_calls], Hours(), T0)
    assert (waits.ranks, waits.next_step_at) == ((), T0 + HOUR // 2)
    assert asked(T0 + HOUR // 2, full, on_calls) == [2]
    assert asked(T0 + HOUR // 2, on_mail, on_calls) == [1]
    # Nobody of them is there: nobody is waited for.
    assert asked(T0, replace(full, presence="offline", routable=False), on_calls) == [2]


def test_the_reason_says_so() -> None:
    agents = [somebody(1, on_mail=True), somebody(2, on_mail=False)]
    found = decide.place(mail(HOUR), NEAR, agents, Hours(), T0)
    why = of_placement(
        mail(HOUR), found, trigger="arrival", winner=found.ranks[0], lost=[], people={}, version=1, now=T0
    )
    assert decision_text(why, "en").endswith("Its promise is near: who has the skill mail is asked first.")
    for language, words in (("uk", "має навичку mail"), ("ru", "есть навык mail")):
        assert words in decision_text(why, language)
        assert words in waiting_text("preferred", 1000, language, steady="desk:mail")


async def clocked(db: Database, inquiry_id: int, due_at: int) -> None:
    """The promise of a reply by then, and its being known to routing."""
    async with db.transaction() as uow:
        await uow.execute(sla_clock.delete().where(sla_clock.c.inquiry_id == inquiry_id))
        facts = {
            "inquiry_id": inquiry_id, "metric": "next_reply", "instance": 1, "state": "active",
            "activated_at": T0, "consumed_ms": 0, "paused_ms": 0, "pause_reasons": [], "business": False,
            "due_at": due_at, "step": 0, "data": {}, "version": 1,
        }  # fmt: skip
        await uow.execute(sla_clock.insert().values(**facts))
        known = DomainEvent(
            kind="sla.retargeted", subject_kind="inquiry", subject_id=inquiry_id, inquiry_id=inquiry_id
        )
        await listeners.on_clock(uow, known)


async def promised(db: Database, team_id: int, due_at: int) -> Item:
    inquiry_id = await desk.an_inquiry(db, team_id=team_id)
    await clocked(db, inquiry_id, due_at)
    return await desk.enqueue(db, inquiry_id)


async def test_near_mail_is_kept_from_who_answers_calls_for_a_quarter_of_its_time(
    db: Database, frozen: MovableClock
) -> None:
    team_id = await desk.a_team(db, settings=RULES)
    await desk.an_agent(db, "Olena", team_id, skills={"desk:mail": 1}, settings={"capacity": {"async": 1}})
    first = await promised(db, team_id, T0 + HOUR)
    calls = await desk.an_agent(db, "Petro", team_id)
    near = await promised(db, team_id, T0 + HOUR)
    far = await promised(db, team_id, T0 + 3 * HOUR)
    assert first.owner_id not in (None, calls)
    assert (near.owner_id, far.owner_id) == (None, calls)
    assert near.next_step_at == T0 + 15 * MINUTE
    frozen.set(T0 + 15 * MINUTE - 1)
    await desk.beat(db)
    await sweep.sweep_steps(db)
    assert (await desk.the_item(db, near.id)).owner_id is None
    frozen.set(T0 + 15 * MINUTE)
    await sweep.sweep_steps(db)
    assert (await desk.the_item(db, near.id)).owner_id == calls
    (last,) = (await desk.rows(db, decision, decision.c.item_id == near.id))[-1:]
    assert last["agent_id"] == calls
    await desk.check_invariants(db)


async def test_a_promise_that_moves_keeps_the_ring(db: Database, frozen: MovableClock) -> None:
    team_id = await desk.a_team(db, settings=RULES)
    await desk.an_agent(db, "Olena", team_id, skills={"desk:mail": 1}, settings={"capacity": {"async": 0}})
    calls = await desk.an_agent(db, "Petro", team_id, settings={"capacity": {"async": 1}})
    busy = await promised(db, team_id, T0 + 3 * HOUR)
    item = await promised(db, team_id, T0 + 3 * HOUR)
    assert (busy.owner_id, item.owner_id, item.step_no) == (calls, None, 0)
    # Near now: it was everybody's and stays so.
    await clocked(db, item.source_id, T0 + HOUR)
    near = await desk.the_item(db, item.id)
    assert [s.scope for s in steps.plan(near, NEAR)][near.step_no] == "required"
    # Far again.
    await clocked(db, item.source_id, T0 + 4 * HOUR)
    far = await desk.the_item(db, item.id)
    assert (far.step_no, len(steps.plan(far, NEAR))) == (0, 1)
    await desk.check_invariants(db)
