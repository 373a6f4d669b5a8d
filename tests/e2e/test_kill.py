"""SIGKILL at random moments, while 500 messages come in through all four channels: the outcome is the same as without."""

import asyncio
import os
import random
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crm_core.call_state import MISSED_GRACE_MS
from crm_core.clock import SECOND
from tests.e2e.bureau import Bureau, bureau
from tests.e2e.rush import TOTAL, Rush, check_replies, check_whole, make_room, outcome, rush, unsettled
from tests.e2e.waiting import until

KILLS = 8
#: longer than any lease on a job: what a dead process held is found again
_LEASES_OVER_MS = 61 * SECOND


async def run(at: Bureau, seed: int, kills: int) -> dict[str, Any]:
    async with rush(at, seed) as made:
        killing = asyncio.create_task(_kill(at, made, random.Random(seed), kills))
        try:
            await made.play()
            await killing
        except BaseException as error:
            waits = at.telegram._delivery._hook.last_error
            error.add_note(
                f"{made.progress.done} of {TOTAL} taken; Telegram's last error: {waits}; {at.place.state()}"
            )
            raise
        finally:
            killing.cancel()
        await _settle(at)
        # The agents' last answers may have come after the dust settled.
        await until(lambda: len(made.replies) == _expected_replies(), "replies accepted by the API")
        await _settle(at)
        await until(lambda: _seen(made), "chat replies at their visitors")
        states = await check_replies(made)
        print(f"{kills} kills: replies {dict(states)}")
        await check_whole(at.db)
        return await outcome(at.db)


def _expected_replies() -> int:
    return 3 * len(range(0, 25, 3))


def _seen(made: Rush) -> bool:
    wanted = sum(text.startswith("answer to Visitor") for text in made.replies)
    return sum(len(v.answers) for v in made.visitors) >= wanted


async def _kill(at: Bureau, made: Rush, dice: random.Random, kills: int) -> None:
    """Kill one process each time the rush has come so far, wherever it is just then, and start it again."""
    for mark in sorted(dice.sample(range(10, TOTAL - 20), kills)):
        await made.progress.reached(mark)
        await asyncio.sleep(dice.uniform(0, 0.05))
        victim = dice.choice(at.place.processes)
        victim.kill()
        if dice.random() < 0.5:
            # It was down for a while: leases of jobs and of agents ran out meanwhile.
            at.place.advance(_LEASES_OVER_MS)
        await at.place.start()


async def _settle(at: Bureau) -> None:
    """Until nothing is under way. What a dead process still holds comes free when its leases are over."""
    at.place.advance(MISSED_GRACE_MS)
    for _ in range(20):
        try:
            await until(lambda: _is_settled(at), "the dust", patience_s=5)
            return
        except AssertionError:
            at.place.advance(_LEASES_OVER_MS)
    left = await unsettled(at.db)
    raise AssertionError(f"still under way: {left}\n{at.place.logs()[-6000:]}")


async def _is_settled(at: Bureau) -> bool:
    return not await unsettled(at.db)


@pytest.mark.parametrize("form", ["embedded", "scaled"], indirect=True)
async def test_kills_change_nothing(
    form: str, tmp_path: Path, new_database: Callable[[str], str], redis_url: Callable[[], str | None]
) -> None:
    seed = int(os.environ.get("SWITCHBOARD_TEST_SEED") or secrets.randbits(32))
    print(f"to repeat this order of things: SWITCHBOARD_TEST_SEED={seed}")
    results = []
    for name, kills in (("quiet", 0), ("killed", KILLS)):
        async with bureau(tmp_path / name, new_database(name), redis_url(), prepare=make_room) as at:
            results.append(await run(at, seed, kills))
    quiet, killed = results
    for part, expected in quiet.items():
        assert killed[part] == expected, part
