"""Who asks the bot for a person is told how long it will be, as long as he really waits."""

import pytest
from sqlalchemy import insert

from crm_core.clock import MINUTE
from crm_core.db.engine import Database
from routing import listeners as routing_listeners
from routing.schema import handle_time
from tests.bots.support import Bureau, Customer, a_bureau, kyiv
from tests.conftest import MovableClock
from tests.routing.engine import desk


@pytest.fixture
async def bureau(db: Database, clock: MovableClock) -> Bureau:
    """Routing listens behind the bots, and the team's chats take four minutes."""
    clock.set(kyiv(2, 12))
    made = await a_bureau(db)
    for kind, functions in routing_listeners.LISTENERS.items():
        db.listeners.setdefault(kind, []).extend(functions)  # type: ignore[attr-defined]
    async with db.transaction() as uow:
        for team_id in made.teams.values():
            await uow.execute(
                insert(handle_time).values(
                    team_id=team_id, channel="chat", smoothed_ms=4 * MINUTE, samples=40, updated_at=uow.now
                )
            )
    return made


async def everybody_busy(bureau: Bureau, db: Database) -> None:
    """One agent in each team, who has all he can."""
    for name, team_id in bureau.teams.items():
        agent_id = await desk.an_agent(db, f"A{name}", team_id, settings={"capacity": {"chat": 1}})
        item = await desk.arrives(db, team_id=team_id, channel="webchat")
        assert item.state == "offered"
        assert agent_id


async def asks(bureau: Bureau, locale: str, who: str) -> list[str]:
    customer = Customer(bureau, "webchat", locale=locale, who=who)
    await customer.writes(
        {"uk": "людину, будь ласка", "ru": "человека, пожалуйста", "en": "a person please"}[locale]
    )
    return [m["text"] for m in await customer.heard()]


async def test_everybody_is_told_his_place_and_time_in_his_language(bureau: Bureau, db: Database) -> None:
    await everybody_busy(bureau, db)
    first = await asks(bureau, "uk", "w1")
    assert "Орієнтовне очікування: 3–5 хв. Ви наступні в черзі." in first[-1]
    second = await asks(bureau, "ru", "w2")
    assert "Примерное ожидание: 6–10 мин. Ваше место в очереди: 2." in second[-1]
    third = await asks(bureau, "en", "w3")
    assert "Expected wait: about 9–15 minutes. You are 3rd in line." in third[-1]


async def test_a_long_wait_comes_with_the_offer_to_be_called(bureau: Bureau, db: Database) -> None:
    await everybody_busy(bureau, db)
    customer = Customer(bureau, "webchat", locale="uk", who="w1")
    await customer.writes("людину, будь ласка")
    assert "Якщо зручніше, ми вам зателефонуємо." in await customer.last_words()
    assert len(await customer.labels()) == 1


async def test_who_is_served_at_once_is_told_nothing(bureau: Bureau, db: Database) -> None:
    for name, team_id in bureau.teams.items():
        await desk.an_agent(db, f"A{name}", team_id)
    heard = await asks(bureau, "en", "w1")
    assert not [t for t in heard if "wait" in t.lower() or "line" in t]


async def test_without_enough_observations_no_minutes_are_said(bureau: Bureau, db: Database) -> None:
    async with db.transaction() as uow:
        await uow.execute(handle_time.update().values(samples=9))
    await everybody_busy(bureau, db)
    heard = await asks(bureau, "en", "w1")
    assert "minutes" not in heard[-1]
    assert "You are next in line." in heard[-1]
