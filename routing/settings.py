"""A team's routing settings: defaults, reading them from `team.settings`, clear errors for wrong ones.

The JSON may also hold keys of other parts of the product; only ours are read. Seconds in the JSON end in
`_s`, inside everything is milliseconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from crm_core.clock import HOUR, MINUTE, SECOND
from routing.model import Channel
from routing.settings_fields import (
    SettingsError,
    Share,
    When,
    flag,
    ids,
    magnitude,
    mapping,
    number,
    one_of,
    seconds,
    sequence,
    share,
    skill,
    when,
)

MODES = ("offer", "assign")
AFTER_HOURS = ("park", "online", "ignore")
BROADCAST_WHEN = ("overdue", "asked", "never")
OVERFLOW_WHEN = ("shorter", "always")
END_OF_SHIFT = ("due", "all", "keep")
LEAD_SELECTORS = ("ranking", "weighted")
PERIODS = ("day", "week", "month")
SCOPES = ("manager", "sticky", "preferred", "required", "relaxed", "overflow")
PRIORITIES = ("low", "normal", "high", "urgent")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """How one channel is routed. Durations are ms.

    `reserve_ms`: the usual handling time; no window opened for the manager's sake may eat into it.
    `interrupts`: channels whose load does not count when this one is offered; `interrupts_up_to`: of these so
    many do not count ({"chat": 1}: a call may interrupt one chat, not two). `inactive_ms`: an assigned
    item that was silent so long gives its place back.
    """

    mode: str
    timeout_ms: int
    max_wait_ms: int
    maximum: int
    weight: int
    sticky_wait: When
    reserve_ms: int
    interrupts: frozenset[str] = frozenset()
    interrupts_up_to: Mapping[str, int] = field(default_factory=dict)
    boosts: Mapping[str, int] = field(default_factory=dict)
    vip_boost_ms: int = 0
    wrapup_ms: int = 0
    inactive_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """One ring of the bullseye: who may serve from `at` on. `skip_if_empty`: with nobody online, go on at
    once.
    """

    scope: str
    at: When = 0
    skip_if_empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastSettings:
    """Offers to several at once, the first who accepts wins. `when`: for what is overdue (and where a step
    of the SLA asks for it), only where a step asks, or never. `first` agents, twice as many each round up to
    `maximum`.
    """

    when: str = "overdue"
    first: int = 5
    maximum: int = 20
    timeout_ms: int = 20 * SECOND

    def size(self, rounds: int) -> int:
        """How many are asked after so many rounds."""
        return int(min(self.first * 2 ** min(rounds, 10), max(self.maximum, self.first)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPromise:
    """Whom asynchronous work with a near promise prefers: who has `skill`, which the team gives to those who are not
    called away from it. Near: from ready to the promise it is `within_ms` at most. None: nobody is preferred.
    """

    skill: str | None = None
    within_ms: int = 2 * HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class LeadSettings:
    """How leads are shared out. `weighted`: to whom has the fewest of this `period` by his weight, instead of
    the least loaded. Weights and caps by agent id; a weight of 0 gets none; `daily_cap` None: no limit.
    """

    selector: str = "ranking"
    period: str = "month"
    weights: Mapping[int, int] = field(default_factory=dict)
    daily_cap: int | None = None
    caps: Mapping[int, int] = field(default_factory=dict)

    @property
    def weighted(self) -> bool:
        return self.selector == "weighted"

    def weight_of(self, agent_id: int) -> int:
        return self.weights.get(agent_id, 1)

    def cap_of(self, agent_id: int) -> int | None:
        return self.caps.get(agent_id, self.daily_cap)


_LIVE_BOOSTS = {"urgent": 2 * MINUTE, "high": 30 * SECOND, "normal": 0, "low": -MINUTE}
_ASYNC_BOOSTS = {"urgent": 4 * HOUR, "high": HOUR, "normal": 0, "low": -2 * HOUR}

DEFAULT_CHANNELS: Mapping[str, ChannelSettings] = {
    Channel.VOICE: ChannelSettings(
        mode="offer",
        timeout_ms=20 * SECOND,
        max_wait_ms=MINUTE,
        maximum=1,
        weight=100,
        sticky_wait=15 * SECOND,
        reserve_ms=0,
        interrupts=frozenset({Channel.ASYNC}),
        boosts=_LIVE_BOOSTS,
        vip_boost_ms=2 * MINUTE,
        wrapup_ms=30 * SECOND,
    ),
    Channel.CHAT: ChannelSettings(
        mode="offer",
        timeout_ms=25 * SECOND,
        max_wait_ms=3 * MINUTE,
        maximum=4,
        weight=25,
        sticky_wait=45 * SECOND,
        reserve_ms=MINUTE,
        interrupts=frozenset({Channel.ASYNC}),
        boosts=_LIVE_BOOSTS,
        vip_boost_ms=2 * MINUTE,
        inactive_ms=10 * MINUTE,
    ),
    Channel.ASYNC: ChannelSettings(
        mode="assign",
        timeout_ms=2 * MINUTE,
        max_wait_ms=8 * HOUR,
        maximum=10,
        weight=10,
        sticky_wait=Share(0.5),
        reserve_ms=15 * MINUTE,
        boosts=_ASYNC_BOOSTS,
        vip_boost_ms=2 * HOUR,
    ),
    Channel.CALLBACK: ChannelSettings(
        mode="offer",
        timeout_ms=30 * SECOND,
        max_wait_ms=5 * MINUTE,
        maximum=1,
        weight=100,
        sticky_wait=MINUTE,
        reserve_ms=0,
        interrupts=frozenset({Channel.ASYNC}),
        boosts=_LIVE_BOOSTS,
        vip_boost_ms=2 * MINUTE,
    ),
}
DEFAULT_STEPS: tuple[StepSettings, ...] = (
    StepSettings(scope="manager", skip_if_empty=True),
    StepSettings(scope="sticky", skip_if_empty=True),
    StepSettings(scope="preferred", skip_if_empty=True),
    StepSettings(scope="required", at=Share(0.25)),
    StepSettings(scope="relaxed", at=Share(0.5)),
    StepSettings(scope="overflow", at=Share(0.75)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeamSettings:
    """Everything a team can say about its routing. `version` grows with each edit and is stored with
    decisions.

    `after_hours`: what happens when the team's calendar is closed. park (default): wait for the opening;
    online: whoever is online all the same may serve; ignore: the calendar does not matter. `after_hours_reply`: who
    writes then is told once when the team opens. Items of a
    priority in `on_call` (and VIPs if `on_call_vip`) are never parked; `on_call_team` serves them too then.

    `vip_steps`: the share of the usual time after which rings open for a VIP. `overflow_when`: another team is
    asked only where its expected wait is shorter, or always. `end_of_shift`: of the asynchronous work of who
    left after his shift, what is due before he is back goes to others, or all of it, or none.
    `outbound_moves_idle`: a call that he made himself puts him at the end of the line, too.

    `near_promise`: whom asynchronous work asks first that is promised soon.

    `late_share`: how often a free agent takes the earliest of the late items while others can still be had
    in time; 1 is pure earliest deadline first. Those late by more than `max_overdue_ms` come first always.
    """

    channels: Mapping[str, ChannelSettings] = field(default_factory=lambda: DEFAULT_CHANNELS)
    steps: tuple[StepSettings, ...] = DEFAULT_STEPS
    overflow: tuple[int, ...] = ()
    after_hours: str = "park"
    after_hours_reply: bool = True
    on_call: frozenset[str] = frozenset()
    on_call_vip: bool = False
    on_call_team: int | None = None
    vip_steps: float = 0.5
    overflow_when: str = "shorter"
    broadcast: BroadcastSettings = BroadcastSettings()
    near_promise: NearPromise = NearPromise()
    leads: LeadSettings = LeadSettings()
    rebalance_per_minute: int = 30
    end_of_shift: str = "due"
    outbound_moves_idle: bool = False
    lead_max_wait_ms: int = 15 * MINUTE
    load_max: int = 100
    exclude_ms: int = 300 * SECOND
    misses_to_break: int = 2
    rounds_per_step: int = 3
    enforce_shifts: bool = False
    late_share: float = 1.0
    max_overdue_ms: int = 4 * HOUR
    default: bool = False
    version: int = 1

    def channel(self, name: str) -> ChannelSettings:
        return self.channels[name]

    def serves_at_night(self, priority: str, vip: bool) -> bool:
        """Whether somebody is on call for what is so urgent while the team is closed."""
        return priority in self.on_call or (vip and self.on_call_vip)

    def rests_when_closed(self, channel: str, priority: str, vip: bool) -> bool:
        """Whether such an item waits for the opening; a callback is promised for its time, whenever that is."""
        if self.after_hours != "park" or channel == Channel.CALLBACK:
            return False
        return not self.serves_at_night(priority, vip)


DEFAULTS = TeamSettings()


def parse(data: Any) -> TeamSettings:
    """Settings of their JSON form; what is missing has its default.

    Keys: `channels.<voice|chat|async|callback>.{mode, timeout_s, max_wait_s, max, weight, sticky_wait,
    reserve_s, interrupts, interrupts_up_to, boosts_s, vip_boost_s, wrapup_s, inactive_s}`, `steps` (list of {scope, at,
    skip_if_empty}; `at` and `sticky_wait` are seconds or "25%"), `overflow` (team ids), `after_hours`,
    `after_hours_reply`,
    `on_call` {priorities, vip, team}, `vip_steps` ("50%"), `overflow_when`, `broadcast` {when, first, max,
    timeout_s}, `near_promise` {skill, within_s}, `leads` {selector, period, weights, daily_cap, caps},
    `rebalance_per_minute`, `end_of_shift`, `outbound_moves_idle`, `lead_max_wait_s`, `load_max`, `exclude_s`,
    `misses_to_break`, `rounds_per_step`, `enforce_shifts`, `late_share` (0-1), `max_overdue_s`, `default`, `version`.

    Raises:
        SettingsError: 422, naming the wrong field.
    """
    root = mapping(data if data is not None else {}, "settings")
    channels = dict(DEFAULT_CHANNELS)
    for name, raw in mapping(root.get("channels", {}), "channels").items():
        if name not in channels:
            raise SettingsError(f"channels.{name}", f"unknown channel, one of {', '.join(channels)}")
        channels[name] = _channel(channels[name], mapping(raw, f"channels.{name}"), f"channels.{name}")
    on_call = mapping(root.get("on_call", {}), "on_call")
    vip_steps = when(root["vip_steps"], "vip_steps") if "vip_steps" in root else Share(DEFAULTS.vip_steps)
    if not isinstance(vip_steps, Share):
        raise SettingsError("vip_steps", f"{root['vip_steps']!r} is no percentage from 0% to 100%")
    base = DEFAULTS
    return TeamSettings(
        channels=channels,
        steps=_steps(root["steps"]) if "steps" in root else DEFAULT_STEPS,
        overflow=tuple(ids(root.get("overflow", ()), "overflow")),
        after_hours=one_of(root.get("after_hours", base.after_hours), AFTER_HOURS, "after_hours"),
        after_hours_reply=flag(root.get("after_hours_reply", True), "after_hours_reply"),
        on_call=frozenset(
            one_of(p, PRIORITIES, "on_call.priorities")
            for p in sequence(on_call.get("priorities", ()), "on_call.priorities")
        ),
        on_call_vip=flag(on_call.get("vip", False), "on_call.vip"),
        on_call_team=None
        if on_call.get("team") is None
        else number(on_call["team"], "on_call.team", low=1, high=2**62),
        vip_steps=vip_steps.of_budget,
        overflow_when=one_of(root.get("overflow_when", base.overflow_when), OVERFLOW_WHEN, "overflow_when"),
        broadcast=_broadcast(mapping(root.get("broadcast", {}), "broadcast")),
        near_promise=_near_promise(mapping(root.get("near_promise", {}), "near_promise")),
        leads=_leads(mapping(root.get("leads", {}), "leads")),
        rebalance_per_minute=number(
            root.get("rebalance_per_minute", base.rebalance_per_minute), "rebalance_per_minute", low=1
        ),
        end_of_shift=one_of(root.get("end_of_shift", base.end_of_shift), END_OF_SHIFT, "end_of_shift"),
        outbound_moves_idle=flag(root.get("outbound_moves_idle", False), "outbound_moves_idle"),
        lead_max_wait_ms=seconds(root, "lead_max_wait_s", base.lead_max_wait_ms, ""),
        load_max=number(root.get("load_max", base.load_max), "load_max", low=1),
        exclude_ms=seconds(root, "exclude_s", base.exclude_ms, ""),
        misses_to_break=number(root.get("misses_to_break", base.misses_to_break), "misses_to_break", low=1),
        rounds_per_step=number(root.get("rounds_per_step", base.rounds_per_step), "rounds_per_step", low=1),
        enforce_shifts=flag(root.get("enforce_shifts", False), "enforce_shifts"),
        late_share=share(root.get("late_share", base.late_share), "late_share"),
        max_overdue_ms=seconds(root, "max_overdue_s", base.max_overdue_ms, ""),
        default=flag(root.get("default", False), "default"),
        version=number(root.get("version", 1), "version", low=1),
    )


def read(data: Any) -> tuple[TeamSettings, str | None]:
    """As `parse`, but stored settings that became wrong must not stop routing: defaults and the error's
    text.
    """
    try:
        return parse(data), None
    except SettingsError as error:
        return DEFAULTS, error.detail


def duration_of(when: When, budget_ms: int) -> int:
    """Milliseconds of a duration that may be a share of the budget."""
    return round(when.of_budget * max(budget_ms, 0)) if isinstance(when, Share) else when


def _channel(base: ChannelSettings, raw: Mapping[str, Any], path: str) -> ChannelSettings:
    boosts = dict(base.boosts)
    for priority, boost in mapping(raw.get("boosts_s", {}), f"{path}.boosts_s").items():
        one_of(priority, PRIORITIES, f"{path}.boosts_s")
        boosts[priority] = number(boost, f"{path}.boosts_s.{priority}", low=-366 * 86_400) * SECOND
    inactive = raw.get("inactive_s", base.inactive_ms and base.inactive_ms // SECOND)
    return replace(
        base,
        mode=one_of(raw.get("mode", base.mode), MODES, f"{path}.mode"),
        timeout_ms=seconds(raw, "timeout_s", base.timeout_ms, path, low=1),
        max_wait_ms=seconds(raw, "max_wait_s", base.max_wait_ms, path, low=1),
        maximum=number(raw.get("max", base.maximum), f"{path}.max"),
        weight=number(raw.get("weight", base.weight), f"{path}.weight"),
        sticky_wait=when(raw["sticky_wait"], f"{path}.sticky_wait")
        if "sticky_wait" in raw
        else base.sticky_wait,
        reserve_ms=seconds(raw, "reserve_s", base.reserve_ms, path),
        interrupts=frozenset(
            one_of(c, tuple(Channel), f"{path}.interrupts")
            for c in sequence(raw["interrupts"], f"{path}.interrupts")
        )
        if "interrupts" in raw
        else base.interrupts,
        interrupts_up_to={
            one_of(c, tuple(Channel), f"{path}.interrupts_up_to"): number(n, f"{path}.interrupts_up_to.{c}")
            for c, n in mapping(raw["interrupts_up_to"], f"{path}.interrupts_up_to").items()
        }
        if "interrupts_up_to" in raw
        else base.interrupts_up_to,
        boosts=boosts,
        vip_boost_ms=seconds(raw, "vip_boost_s", base.vip_boost_ms, path),
        wrapup_ms=seconds(raw, "wrapup_s", base.wrapup_ms, path),
        inactive_ms=None if inactive is None else number(inactive, f"{path}.inactive_s", low=1) * SECOND,
    )


def _broadcast(raw: Mapping[str, Any]) -> BroadcastSettings:
    base = BroadcastSettings()
    first = number(raw.get("first", base.first), "broadcast.first", low=1, high=20)
    return BroadcastSettings(
        when=one_of(raw.get("when", base.when), BROADCAST_WHEN, "broadcast.when"),
        first=first,
        maximum=number(raw.get("max", max(base.maximum, first)), "broadcast.max", low=first, high=20),
        timeout_ms=seconds(raw, "timeout_s", base.timeout_ms, "broadcast", low=1),
    )


def _near_promise(raw: Mapping[str, Any]) -> NearPromise:
    base, asked = NearPromise(), raw.get("skill")
    return NearPromise(
        skill=None if asked is None else skill(asked, "near_promise.skill"),
        within_ms=seconds(raw, "within_s", base.within_ms, "near_promise", low=1),
    )


def _leads(raw: Mapping[str, Any]) -> LeadSettings:
    base = LeadSettings()
    cap = raw.get("daily_cap", base.daily_cap)
    return LeadSettings(
        selector=one_of(raw.get("selector", base.selector), LEAD_SELECTORS, "leads.selector"),
        period=one_of(raw.get("period", base.period), PERIODS, "leads.period"),
        weights=_by_agent(raw.get("weights", {}), "leads.weights"),
        daily_cap=None if cap is None else number(cap, "leads.daily_cap"),
        caps=_by_agent(raw.get("caps", {}), "leads.caps"),
    )


def _by_agent(raw: Any, path: str) -> Mapping[int, int]:
    """Numbers by agent id; JSON has the ids as text."""
    found: dict[int, int] = {}
    for key, value in mapping(raw, path).items():
        if not str(key).isascii() or not str(key).isdigit() or len(str(key)) > 18:
            raise SettingsError(f"{path}.{key}", "is no agent's id")
        found[int(key)] = number(value, f"{path}.{key}")
    return found


def _steps(raw: Any) -> tuple[StepSettings, ...]:
    steps: list[StepSettings] = []
    for i, entry in enumerate(sequence(raw, "steps")):
        path = f"steps.{i}"
        step = mapping(entry, path)
        scope = one_of(step.get("scope"), SCOPES, f"{path}.scope")
        if steps and SCOPES.index(scope) <= SCOPES.index(steps[-1].scope):
            raise SettingsError(f"{path}.scope", f"{scope!r} after {steps[-1].scope!r}: steps may only widen")
        at = when(step.get("at", 0), f"{path}.at")
        before = next(
            (s.at for s in reversed(steps) if isinstance(s.at, Share) == isinstance(at, Share)), None
        )
        if before is not None and magnitude(at) < magnitude(before):
            raise SettingsError(f"{path}.at", "earlier than the step before")
        skip = flag(step.get("skip_if_empty", scope in ("manager", "sticky")), f"{path}.skip_if_empty")
        steps.append(StepSettings(scope=scope, at=at, skip_if_empty=skip))
    if not any(s.scope not in ("manager", "sticky") for s in steps):
        raise SettingsError(
            "steps", "at least one step must ask the team (preferred, required, relaxed or overflow)"
        )
    return tuple(steps)
