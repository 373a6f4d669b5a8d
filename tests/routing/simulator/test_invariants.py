"""I1-I8 over random centres in which everything goes wrong and every delivery comes twice."""

import pytest

from routing import decide
from routing.simulator import chaos, desks, engine
from routing.simulator.chaos import watched


def test_no_random_centre_breaks_an_invariant() -> None:
    events = 0
    for seed, problems, count in watched(range(700)):
        assert not problems, (seed, problems[:3])
        events += count
    assert events > 50_000


def broken(seeds: int = 60) -> set[str]:
    """The names of the invariants that random centres break now."""
    return {p.split(": ")[1] for _, problems, _ in watched(range(seeds)) for p in problems}


def test_the_watch_sees_idle_hands(monkeypatch) -> None:
    monkeypatch.setattr(engine.Engine, "pull", lambda self, desk: None)
    assert broken() == {"I4"}


def test_the_watch_sees_capacity_that_is_not_given_back(monkeypatch) -> None:
    release = desks.Desks.release
    monkeypatch.setattr(
        desks.Desks, "release", lambda self, desk, channel, weight, now: (
            None if channel == "chat" else release(self, desk, channel, weight, now)
        ),
    )  # fmt: skip
    assert "I1" in broken()


def test_the_watch_sees_a_wrong_order(monkeypatch) -> None:
    pick = decide.pick
    monkeypatch.setattr(
        decide, "pick", lambda a, heads, teams, now, **k: pick(a, heads[::-1], teams, now, **k)
    )
    assert "I5" in broken()


def test_the_watch_sees_that_the_best_was_not_asked(monkeypatch) -> None:
    candidates = desks.Desks.candidates
    monkeypatch.setattr(desks.Desks, "candidates", lambda self, *a: candidates(self, *a)[:1])
    assert "I8" in broken()


def test_the_watch_sees_work_for_who_must_not_have_it(monkeypatch) -> None:
    monkeypatch.setattr(decide, "availability_failure", lambda *a: None)
    assert "I3" in broken(20)


def test_a_seed_is_the_same_centre_and_the_same_run_everywhere() -> None:
    assert chaos.centre(5) == chaos.centre(5)
    first, second = ([(p, n) for _, p, n in watched([7, 8])] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("how", ["ACCEPT", "END"])
def test_deliveries_do_come_twice(how, monkeypatch) -> None:
    """The duplicates are real: an engine that does not tell them apart falls over its own state."""
    from routing.machine import WrongStateError

    name = {"ACCEPT": "_offer", "END": "_end"}[how]
    if how == "ACCEPT":
        monkeypatch.setattr(
            engine.Engine, name, lambda self, live, stamp: next(iter(live.offers.values()), live.held)
        )
    else:
        monkeypatch.setattr(
            engine.Engine, name,
            lambda self, live, stamp: self._feed(live, engine.machine.Ended(held=(live.held,), cause="solved")),
        )  # fmt: skip
    with pytest.raises((WrongStateError, AttributeError, KeyError)):
        list(watched(range(60)))
