"""Routing's tables: calendars, SLA policies and clocks, lanes, offers, assignments, decisions, callbacks.

All instants are integer milliseconds UTC, so both databases order them identically.
"""

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from crm_core.db.types import Big, Id, Json, Ms, metadata

calendar = Table(
    "calendar",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("spec", Json, nullable=False),  # tz, week, holidays, breaks, special; see routing.business_time
    Column("version", Integer, nullable=False),
    Column("updated_at", Ms, nullable=False),
)

# Every version a calendar ever had: a clock that ran under an old one is measured with it.
calendar_version = Table(
    "calendar_version",
    metadata,
    Column("calendar_id", Big, ForeignKey("calendar.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("spec", Json, nullable=False),
    Column("created_at", Ms, nullable=False),
    # Of the compiled hours: if another tzdata compiles them differently, that is a new version (routing.sla.zones).
    Column("fingerprint", String(64), nullable=True),
)

# Holidays that come from an iCalendar file: which dates it gave, so that the next one replaces these and no others.
calendar_feed = Table(
    "calendar_feed",
    metadata,
    Column("calendar_id", Big, ForeignKey("calendar.id", ondelete="CASCADE"), primary_key=True),
    Column("url", String(1000), nullable=True),  # None: uploaded by hand
    Column("dates", Json, nullable=False),  # {"2025-01-01": "New Year"}
    Column("warnings", Json, nullable=False),
    Column("etag", String(300), nullable=True),
    Column("failures", Integer, nullable=False),
    Column("error", String(500), nullable=True),
    Column("read_at", Ms, nullable=True),
    Column("next_at", Ms, nullable=True),
    Column("updated_at", Ms, nullable=False),
)
Index(
    "ix_calendar_feed_next_at",
    calendar_feed.c.next_at,
    postgresql_where=calendar_feed.c.next_at.is_not(None),
    sqlite_where=calendar_feed.c.next_at.is_not(None),
)

sla_policy = Table(
    "sla_policy",
    metadata,
    Column("id", Id, primary_key=True),
    Column("policy_key", String(60), nullable=False),  # the same over all versions
    Column("version", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("name", String(120), nullable=False),
    Column("conditions", Json, nullable=False),
    Column("targets", Json, nullable=False),  # {priority: {metric: {minutes, business, steps}}}
    Column("options", Json, nullable=False),  # calendar_id, pause_statuses, bot_counts …
    Column("current", Boolean, nullable=False),  # old versions stay for the ledger
    Column("created_at", Ms, nullable=False),
    UniqueConstraint("policy_key", "version", name="uq_sla_policy_version"),
    Index("ix_sla_policy_current", "current", "position"),
)

sla_clock = Table(
    "sla_clock",
    metadata,
    Column("id", Id, primary_key=True),
    Column("inquiry_id", Big, ForeignKey("inquiry.id", ondelete="CASCADE"), nullable=False),
    Column("metric", String(20), nullable=False),
    Column("instance", Integer, nullable=False),
    Column("state", String(10), nullable=False),  # active | paused | fulfilled | cancelled
    Column("activated_at", Ms, nullable=False),
    Column("consumed_ms", Big, nullable=False),
    Column("running_since", Ms, nullable=True),
    Column("paused_ms", Big, nullable=False),
    Column("paused_since", Ms, nullable=True),
    Column("pause_reasons", Json, nullable=False),
    Column("target_ms", Big, nullable=True),
    Column("business", Boolean, nullable=False),
    Column("calendar_id", Big, nullable=True),
    Column("calendar_version", Integer, nullable=True),
    Column("policy_id", Big, nullable=True),
    Column("policy_version", Integer, nullable=True),
    Column("priority", String(10), nullable=True),
    Column("due_at", Ms, nullable=True),
    Column("breach_at", Ms, nullable=True),
    Column("next_fire_at", Ms, nullable=True),
    Column("step", Integer, nullable=False),
    Column("breached_at", Ms, nullable=True),
    Column("fulfilled_at", Ms, nullable=True),
    Column("cause", String(40), nullable=True),  # of the end: reply, solve, merge, spam …
    Column("data", Json, nullable=False),
    Column("version", Integer, nullable=False),
    UniqueConstraint("inquiry_id", "metric", "instance", name="uq_sla_clock_instance"),
)
Index(
    "ix_sla_clock_next_fire_at",
    sla_clock.c.next_fire_at,
    postgresql_where=sla_clock.c.next_fire_at.is_not(None),
    sqlite_where=sla_clock.c.next_fire_at.is_not(None),
)
# Which tickets follow an edit of the rules, without reading the clocks of the past.
Index(
    "ix_sla_clock_live",
    sla_clock.c.inquiry_id,
    postgresql_where=sla_clock.c.state.in_(("active", "paused")),
    sqlite_where=sla_clock.c.state.in_(("active", "paused")),
)
# The wallboard's two questions, without reading the clocks of the past.
Index(
    "ix_sla_clock_open_due",
    sla_clock.c.due_at,
    postgresql_where=sla_clock.c.state == "active",
    sqlite_where=sla_clock.c.state == "active",
)
Index(
    "ix_sla_clock_open_breached",
    sla_clock.c.breached_at,
    postgresql_where=sla_clock.c.state.in_(("active", "paused")) & sla_clock.c.breached_at.is_not(None),
    sqlite_where=sla_clock.c.state.in_(("active", "paused")) & sla_clock.c.breached_at.is_not(None),
)
# Reports: who began to wait for a person in a period, and the backlog by age.
Index(
    "ix_sla_clock_answer",
    sla_clock.c.activated_at,
    postgresql_where=sla_clock.c.metric == "speed_of_answer",
    sqlite_where=sla_clock.c.metric == "speed_of_answer",
)
_backlog = (sla_clock.c.metric == "requester_wait") & sla_clock.c.state.in_(("active", "paused"))
Index("ix_sla_clock_backlog", sla_clock.c.activated_at, postgresql_where=_backlog, sqlite_where=_backlog)

sla_event = Table(
    "sla_event",
    metadata,
    Column("id", Id, primary_key=True),
    Column("clock_id", Big, ForeignKey("sla_clock.id", ondelete="CASCADE"), nullable=False),
    Column("inquiry_id", Big, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("at", Ms, nullable=False),
    Column("cause", String(80), nullable=True),
    Column("step_key", String(60), nullable=True),  # each step fires once per clock and policy version
    Column("data", Json, nullable=False),
    Column("recorded_at", Ms, nullable=False),
    UniqueConstraint("clock_id", "step_key", name="uq_sla_event_step"),
    Index("ix_sla_event_clock_id", "clock_id", "id"),
    Index("ix_sla_event_inquiry_id", "inquiry_id"),
)
# Reports read what was decided in a period, not the steps and pauses between.
_decided = sla_event.c.kind.in_(("breach", "fulfil", "reopen", "cancel"))
Index(
    "ix_sla_event_decided",
    sla_event.c.at,
    sla_event.c.id,
    postgresql_where=_decided,
    sqlite_where=_decided,
)

# A call for help that somebody must acknowledge; those of one team and minute are one.
sla_page = Table(
    "sla_page",
    metadata,
    Column("id", Id, primary_key=True),
    Column("team_id", Big, nullable=False),  # 0: of no team
    Column("minute", Big, nullable=False),
    Column("inquiry_id", Big, nullable=False),  # the first that asked for help
    Column("clock_id", Big, nullable=False),
    Column("state", String(12), nullable=False),  # open | acknowledged | answered | exhausted
    Column("times", Integer, nullable=False),  # how often people were called
    Column("asked", Integer, nullable=False),  # how many steps asked for it
    Column("next_at", Ms, nullable=True),
    Column("acknowledged_by", Big, nullable=True),
    Column("acknowledged_at", Ms, nullable=True),
    Column("created_at", Ms, nullable=False),
    UniqueConstraint("team_id", "minute", name="uq_sla_page_minute"),
    Index("ix_sla_page_state", "state", "id"),
)

# Promises of a team broken within a minute: beyond a limit they are told as one summary.
sla_storm = Table(
    "sla_storm",
    metadata,
    Column("team_id", Big, primary_key=True, autoincrement=False),  # 0: of no team
    Column("minute", Big, primary_key=True, autoincrement=False),
    Column("breaches", Integer, nullable=False),
    Column("first_breach_at", Ms, nullable=False),
)

agent_state = Table(
    "agent_state",
    metadata,
    Column("agent_id", Big, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("presence", String(16), nullable=False),  # online | break | dnd | wrapup | offline | away_reassign
    Column("reason", String(40), nullable=True),  # e.g. not_responding
    Column("since", Ms, nullable=False),
    Column("lease_until", Ms, nullable=True),
    Column("routable", Boolean, nullable=False),  # presence and lease folded in, written with them
    Column("idle_since", Ms, nullable=False),
    Column("missed_offers", Integer, nullable=False),
    Column("load_used", Integer, nullable=False),
    Column("load_max", Integer, nullable=False),
    Column("wrapup_until", Ms, nullable=True),
)
Index(
    "ix_agent_state_lease",
    agent_state.c.lease_until,
    postgresql_where=text("routable"),
    sqlite_where=text("routable"),
)

agent_slot = Table(
    "agent_slot",
    metadata,
    Column("agent_id", Big, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("channel", String(10), primary_key=True),  # voice | chat | async | callback
    Column("max", Integer, nullable=False),
    Column("used", Integer, nullable=False),
    Column(
        "load", Integer, nullable=False
    ),  # weight held by this channel; agent_state.load_used is their sum
)

lane = Table(
    "lane",
    metadata,
    Column("id", Id, primary_key=True),
    Column("signature", String(400), nullable=False, unique=True),
    Column("team_id", Big, nullable=True),
    Column("channel", String(10), nullable=False),
    Column("requirements", Json, nullable=False),
    Column("agent_id", Big, nullable=True),  # a lane of one: the manager's step, a directed transfer
    Column("created_at", Ms, nullable=False),
    Index("ix_lane_team_id", "team_id", "channel"),
)

agent_lane = Table(
    "agent_lane",
    metadata,
    Column("agent_id", Big, primary_key=True),
    Column("lane_id", Big, ForeignKey("lane.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_agent_lane_lane_id", "lane_id", "agent_id"),
)

work_item = Table(
    "work_item",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source_kind", String(10), nullable=False),  # inquiry | call | callback
    Column("source_id", Big, nullable=False),
    Column("attempt", Integer, nullable=False),  # 1, 2 … : a reopened inquiry is a new attempt
    Column("inquiry_id", Big, nullable=True),
    Column("conversation_id", Big, nullable=True),
    Column("contact_id", Big, nullable=True),
    Column("team_id", Big, nullable=True),
    Column("home_team_id", Big, nullable=True),
    Column("teams_seen", Json, nullable=False),
    Column("channel", String(10), nullable=False),
    Column("kind", String(10), nullable=False),  # ticket | lead | call | callback
    Column(
        "requirements", Json, nullable=False
    ),  # {"required": {skill: level}, "preferred": {…}, "hard": […]}
    Column("priority", String(10), nullable=False),
    Column("vip", Boolean, nullable=False),
    Column(
        "state", String(10), nullable=False
    ),  # parked | waiting | offered | assigned | wrapup | done | cancelled | abandoned
    Column("order_key", Ms, nullable=False),
    Column("order_parts", Json, nullable=False),  # metric, due, boosts: what the key is made of
    Column("due_at", Ms, nullable=True),
    Column("ready_at", Ms, nullable=False),  # original instant of entering the queue
    Column("step_no", Integer, nullable=False),
    Column("step_entered_at", Ms, nullable=False),
    Column("next_step_at", Ms, nullable=True),
    Column("manager_id", Big, nullable=True),
    Column("sticky_agent_id", Big, nullable=True),
    Column("directed_agent_id", Big, nullable=True),  # transfer to a person
    Column("return_agent_id", Big, nullable=True),
    Column("excluded", Json, nullable=False),  # {agent_id: until_ms}
    Column("rounds", Integer, nullable=False),
    Column("broadcasts", Integer, nullable=False),  # rounds offered to several at once
    Column("broadcast_asked", Boolean, nullable=False),  # a step of the SLA asked for it
    Column("added_teams", Json, nullable=False),  # overflow teams of this item alone: a step of the SLA
    Column("on_call", Boolean, nullable=False),  # came while its team was closed and is served all the same
    Column("owner_id", Big, nullable=True),
    Column("parked_reason", String(30), nullable=True),
    Column("wake_at", Ms, nullable=True),  # of a parked or wrapping-up item
    Column("version", Integer, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("ended_at", Ms, nullable=True),
    UniqueConstraint("source_kind", "source_id", "attempt", name="uq_work_item_source"),
    Index("ix_work_item_inquiry_id", "inquiry_id"),
    Index("ix_work_item_ready_at", "ready_at", "id"),  # planning reads what came in a period
)
Index(
    "ix_work_item_next_step_at",
    work_item.c.next_step_at,
    postgresql_where=work_item.c.next_step_at.is_not(None),
    sqlite_where=work_item.c.next_step_at.is_not(None),
)
# What the wallboard counts: bounded by what is open, whatever the history.
Index(
    "ix_work_item_queue",
    work_item.c.team_id,
    work_item.c.ready_at,
    postgresql_where=work_item.c.state.in_(("parked", "waiting", "offered")),
    sqlite_where=work_item.c.state.in_(("parked", "waiting", "offered")),
)
Index(
    "ix_work_item_wake_at",
    work_item.c.wake_at,
    postgresql_where=work_item.c.wake_at.is_not(None),
    sqlite_where=work_item.c.wake_at.is_not(None),
)
Index(
    "ix_work_item_owner_id",
    work_item.c.owner_id,
    postgresql_where=work_item.c.owner_id.is_not(None),
    sqlite_where=work_item.c.owner_id.is_not(None),
)

queue_entry = Table(
    "queue_entry",
    metadata,
    Column("lane_id", Big, primary_key=True),
    Column("order_key", Ms, primary_key=True),
    Column("item_id", Big, ForeignKey("work_item.id", ondelete="CASCADE"), primary_key=True),
    Index("ix_queue_entry_item_id", "item_id"),
)

offer = Table(
    "offer",
    metadata,
    Column("id", Id, primary_key=True),
    Column("item_id", Big, ForeignKey("work_item.id", ondelete="CASCADE"), nullable=False),
    Column("agent_id", Big, nullable=False),
    Column("channel", String(10), nullable=False),
    Column("state", String(10), nullable=False),  # open | accepted | declined | expired | revoked
    Column("attempt", Integer, nullable=False),
    Column("token", String(40), nullable=False),
    Column("kind", String(10), nullable=False),  # one | directed | broadcast
    Column("weight", Integer, nullable=False),  # of the capacity held
    Column("reason", String(60), nullable=True),
    Column("decision_id", Big, nullable=True),
    Column("created_at", Ms, nullable=False),
    Column("expires_at", Ms, nullable=False),
    Column("ended_at", Ms, nullable=True),
    Index("ix_offer_agent_id", "agent_id", "state", "created_at"),
    Index("ix_offer_item_id", "item_id"),
)
Index(
    "uq_offer_open",
    offer.c.item_id,
    offer.c.agent_id,
    unique=True,
    postgresql_where=offer.c.state == "open",
    sqlite_where=offer.c.state == "open",
)
Index(
    "ix_offer_expires_at",
    offer.c.expires_at,
    postgresql_where=offer.c.state == "open",
    sqlite_where=offer.c.state == "open",
)

assignment = Table(
    "assignment",
    metadata,
    Column("id", Id, primary_key=True),
    Column("item_id", Big, ForeignKey("work_item.id", ondelete="CASCADE"), nullable=False),
    Column("inquiry_id", Big, nullable=True),
    Column("agent_id", Big, nullable=False),
    Column("channel", String(10), nullable=False),
    Column("weight", Integer, nullable=False),  # of the capacity held; 0 while it waits for the customer
    Column("holds_slot", Boolean, nullable=False),
    Column("forced", Boolean, nullable=False),
    Column("cause", String(30), nullable=False),  # offer | outright | take | transfer
    Column("decision_id", Big, nullable=True),
    Column("team_id", Big, nullable=True),  # whose queue it came from
    Column("started_at", Ms, nullable=False),
    Column("ended_at", Ms, nullable=True),
    Column("end_cause", String(30), nullable=True),
    Index("ix_assignment_agent_id", "agent_id", "ended_at"),
    # The last waits of a queue (expected wait) and who handled how much (fairness).
    Index("ix_assignment_team_id", "team_id", "channel", "started_at"),
    Index("ix_assignment_inquiry_id", "inquiry_id"),
    Index("ix_assignment_item_id", "item_id", "id"),  # planning: who handled it, and for how long
    Index("ix_assignment_ended_at", "ended_at", "id"),  # reports: what was handled in a period
)
Index(
    "uq_assignment_live",
    assignment.c.item_id,
    unique=True,
    postgresql_where=assignment.c.ended_at.is_(None),
    sqlite_where=assignment.c.ended_at.is_(None),
)

decision = Table(
    "decision",
    metadata,
    Column("id", Id, primary_key=True),
    Column("item_id", Big, nullable=False),
    Column("inquiry_id", Big, nullable=True),
    Column("at", Ms, nullable=False),
    Column("trigger", String(30), nullable=False),
    Column("outcome", String(30), nullable=False),
    Column("agent_id", Big, nullable=True),
    Column("why", Json, nullable=False),
    Column("rule_version", Integer, nullable=False),
    Column("input", Json, nullable=True),  # what replaying it needs, at most 4 KB; see routing.replay
    Index("ix_decision_item_id", "item_id", "id"),
    Index("ix_decision_inquiry_id", "inquiry_id", "id"),
)

# Every edit of what a team's routing depends on. Rows are never changed; team.settings holds the newest.
routing_version = Table(
    "routing_version",
    metadata,
    Column("team_id", Big, ForeignKey("team.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("kind", String(10), nullable=False),  # settings | people
    Column("settings", Json, nullable=False),  # as they were said, without defaults
    Column("changes", Json, nullable=False),  # [{"path", "before", "after"}]
    Column("comment", String(500), nullable=True),
    Column("source", String(20), nullable=False),  # api | import | admin | rollback | first
    Column("actor", String(60), nullable=False),
    Column("created_at", Ms, nullable=False),
)

# How far the newest version of a team has reached its agents' limits and its waiting items.
routing_rollout = Table(
    "routing_rollout",
    metadata,
    Column("team_id", Big, ForeignKey("team.id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("phase", String(10), nullable=False),  # agents | items | late | done
    Column("after_at", Ms, nullable=False),  # behind which (ready_at, id) to go on
    Column("after_id", Big, nullable=False),
    Column("agents", Integer, nullable=False),  # looked at
    Column("items", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("started_at", Ms, nullable=False),
    Column("finished_at", Ms, nullable=True),
)
Index(
    "ix_routing_rollout_open",
    routing_rollout.c.started_at,
    postgresql_where=routing_rollout.c.finished_at.is_(None),
    sqlite_where=routing_rollout.c.finished_at.is_(None),
)

# How long work of a team's channel takes, smoothed at the end of each assignment; team 0: of no team.
handle_time = Table(
    "handle_time",
    metadata,
    Column("team_id", Big, primary_key=True),
    Column("channel", String(10), primary_key=True),
    Column("smoothed_ms", Big, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("updated_at", Ms, nullable=False),
)

# Leads given by a team that shares them out by weight; kept with each assignment, never counted.
lead_count = Table(
    "lead_count",
    metadata,
    Column("team_id", Big, ForeignKey("team.id", ondelete="CASCADE"), primary_key=True),
    Column("agent_id", Big, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("period_start", Ms, nullable=False),
    Column("given", Integer, nullable=False),
    Column("day_start", Ms, nullable=False),
    Column("given_today", Integer, nullable=False),
)

# How much work of lost agents a team has moved in the present minute, so that one disconnect is no storm.
rebalance_pace = Table(
    "rebalance_pace",
    metadata,
    Column("team_id", Big, primary_key=True),
    Column("minute_start", Ms, nullable=False),
    Column("moved", Integer, nullable=False),
)

command = Table(
    "command",
    metadata,
    Column(
        "id", String(80), primary_key=True
    ),  # the caller's; the same twice is a no-op with the stored result
    Column("result", Json, nullable=False),
    Column("at", Ms, nullable=False),
    Index("ix_command_at", "at"),
)

callback = Table(
    "callback",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact_id", Big, ForeignKey("contact.id"), nullable=False),
    Column("inquiry_id", Big, ForeignKey("inquiry.id"), nullable=True),
    Column("conversation_id", Big, nullable=True),
    Column("inbox_id", Big, nullable=True),  # the telephony account that dials
    Column("phone", String(20), nullable=False),  # E.164
    Column("timezone", String(60), nullable=False),
    Column("timezone_source", String(20), nullable=False),  # contact | phone | default
    Column("window_start", Ms, nullable=False),
    Column("window_end", Ms, nullable=False),
    Column("due_at", Ms, nullable=False),
    Column("asked_for", Boolean, nullable=False),  # an explicit wish overrides quiet hours
    Column("owner_id", Big, nullable=True),
    Column("team_id", Big, nullable=True),
    Column("state", String(10), nullable=False),
    # scheduled | due | dialling | paused | done | cancelled | escalated
    Column("mode", String(16), nullable=False),  # preview | agent_first | customer_first
    Column("counted_attempts", Integer, nullable=False),
    Column("uncounted_attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("next_attempt_at", Ms, nullable=True),
    Column("escalate_at", Ms, nullable=True),  # when nobody has dialled by then, a supervisor is told
    Column("outcome", String(20), nullable=True),
    Column("note", Text, nullable=True),
    Column("created_by", String(60), nullable=False),
    Column("source", String(20), nullable=False),  # bot | chat | form | desk
    Column("dedupe", String(120), nullable=True, unique=True),
    Column("version", Integer, nullable=False),
    Column("escalated_at", Ms, nullable=True),
    Column("kept_at", Ms, nullable=True),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    # scheduled: a promised time | hold: a place in the queue kept for somebody who hung up
    Column("kind", String(10), nullable=False, server_default="scheduled"),
    Column("kept_by", Ms, nullable=True),  # the promised window and its tolerance: later is late
    Column("first_dialled_at", Ms, nullable=True),
    Column("escalation", String(40), nullable=True),  # why a supervisor was asked
    Column("ended_by", String(10), nullable=True),  # of a cancelled one: customer | agent | system
    Column("end_reason", String(500), nullable=True),
    Column("paused_at", Ms, nullable=True),  # the customer wrote or called: nobody dials meanwhile
    Column("pause_cause", String(40), nullable=True),
    # Whom to ask in which order, what came of each: [{agent_id, role, from, until, result}]
    Column("chain", Json, nullable=True),
    Column("watch", String(10), nullable=True),  # what `watch_at` is for: chain | card | pacing
    Column("watch_at", Ms, nullable=True),
    Column("slot_team_id", Big, nullable=True),  # the half hour it took from a team's offer
    Column("slot_at", Ms, nullable=True),
    Column("public_token", String(64), nullable=True, unique=True),  # opens the customer's own page
    # Of a place in the queue: what it stands for.
    Column("enqueued_at", Ms, nullable=True),
    Column("priority", String(10), nullable=True),
    Column("held_call_id", Big, nullable=True),
    Column("place_lost", Boolean, nullable=False, server_default=false()),
    Index("ix_callback_contact_id", "contact_id"),
    Index("ix_callback_owner_id", "owner_id", "state"),
    Index("ix_callback_phone", "phone", "state"),
    Index("ix_callback_inquiry_id", "inquiry_id"),
    # Reports read the promises of a period.
    Index("ix_callback_window_start", "window_start"),
)
Index(
    "ix_callback_open",
    callback.c.due_at,
    callback.c.id,
    postgresql_where=callback.c.state.in_(("scheduled", "due", "dialling", "paused", "escalated")),
    sqlite_where=callback.c.state.in_(("scheduled", "due", "dialling", "paused", "escalated")),
)
Index(
    "ix_callback_watch_at",
    callback.c.watch_at,
    postgresql_where=callback.c.watch_at.is_not(None),
    sqlite_where=callback.c.watch_at.is_not(None),
)
# One number has one place in the queue.
Index(
    "uq_callback_hold_phone",
    callback.c.phone,
    unique=True,
    postgresql_where=(callback.c.kind == "hold")
    & callback.c.state.in_(("scheduled", "due", "dialling", "paused")),
    sqlite_where=(callback.c.kind == "hold")
    & callback.c.state.in_(("scheduled", "due", "dialling", "paused")),
)
Index(
    "ix_callback_next_attempt_at",
    callback.c.next_attempt_at,
    postgresql_where=callback.c.next_attempt_at.is_not(None),
    sqlite_where=callback.c.next_attempt_at.is_not(None),
)
Index(
    "ix_callback_escalate_at",
    callback.c.escalate_at,
    postgresql_where=callback.c.escalate_at.is_not(None),
    sqlite_where=callback.c.escalate_at.is_not(None),
)

callback_attempt = Table(
    "callback_attempt",
    metadata,
    Column("id", Id, primary_key=True),
    Column("callback_id", Big, ForeignKey("callback.id", ondelete="CASCADE"), nullable=False),
    Column("n", Integer, nullable=False),
    Column("agent_id", Big, nullable=True),
    Column("mode", String(16), nullable=False),  # originated | manual
    Column("correlation_id", String(80), nullable=True, unique=True),
    Column("call_id", Big, nullable=True),
    Column("state", String(10), nullable=False),  # dialling | ended
    Column("outcome", String(20), nullable=True),
    Column("counted", Boolean, nullable=False),
    Column("note", Text, nullable=True),
    Column("started_at", Ms, nullable=False),
    Column("ended_at", Ms, nullable=True),
    Column("give_up_at", Ms, nullable=True),  # no word from the PBX by then: the attempt ends as failed
    Column("phone", String(20), nullable=True),  # E.164, as it was dialled
    Column("style", String(16), nullable=True),  # preview | agent_first | customer_first
    Column("agent_answered_at", Ms, nullable=True),
    Column("customer_answered_at", Ms, nullable=True),
    Column("connected_at", Ms, nullable=True),  # of a customer-first call: an agent spoke
    UniqueConstraint("callback_id", "n", name="uq_callback_attempt_n"),
)
# Two workers, two promises, one number: only one of them rings.
Index(
    "uq_callback_attempt_dialling",
    callback_attempt.c.phone,
    unique=True,
    postgresql_where=callback_attempt.c.state == "dialling",
    sqlite_where=callback_attempt.c.state == "dialling",
)
# How many customers hung up on us after they answered, of late.
Index(
    "ix_callback_attempt_customer_first",
    callback_attempt.c.started_at,
    postgresql_where=callback_attempt.c.style == "customer_first",
    sqlite_where=callback_attempt.c.style == "customer_first",
)
Index(
    "ix_callback_attempt_give_up_at",
    callback_attempt.c.give_up_at,
    postgresql_where=callback_attempt.c.give_up_at.is_not(None),
    sqlite_where=callback_attempt.c.give_up_at.is_not(None),
)

# Promises made to a team's half hour. The row is the lock: a slot is taken by compare-and-set.
callback_slot = Table(
    "callback_slot",
    metadata,
    Column("team_id", Big, primary_key=True),
    Column("start", Ms, primary_key=True),
    Column("taken", Integer, nullable=False),
)
