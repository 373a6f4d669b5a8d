"""Requests that somebody must handle, and telephone calls."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from crm_core.db.types import Big, Id, Json, Ms, metadata

inquiry = Table(
    "inquiry",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", String(10), nullable=False),  # ticket | lead
    Column("status", String(10), nullable=False),  # new | open | pending | hold | solved | closed
    Column("stage", String(20), nullable=True),  # of a lead in its pipeline
    Column("outcome", String(20), nullable=True),
    Column("subject", String(500), nullable=False),
    Column("contact_id", Big, ForeignKey("contact.id"), nullable=False),
    Column("conversation_id", Big, ForeignKey("conversation.id"), nullable=True),
    Column("inbox_id", Big, ForeignKey("inbox.id"), nullable=True),
    Column("channel", String(20), nullable=False),
    Column("team_id", Big, ForeignKey("team.id"), nullable=True),
    Column("assignee_id", Big, ForeignKey("agent.id"), nullable=True),
    Column("priority", String(10), nullable=False),  # low | normal | high | urgent
    Column("language", String(10), nullable=False),
    Column("source", String(60), nullable=True),  # of a lead: utm, form, call
    Column("value_minor", Big, nullable=True),
    Column("currency", String(3), nullable=True),
    Column("tags", Json, nullable=False),
    Column("fields", Json, nullable=False),  # form answers and what the bot collected
    Column("requirements", Json, nullable=False),  # skills asked for beyond the language: {"product:visa": 3}
    Column("held_by_bot", Boolean, nullable=False),
    Column("merged_into_id", Big, ForeignKey("inquiry.id"), nullable=True),
    Column("version", Integer, nullable=False),
    Column("last_message_at", Ms, nullable=True),
    Column("snooze_until", Ms, nullable=True),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Column("solved_at", Ms, nullable=True),
    Column("closed_at", Ms, nullable=True),
    Column("search_text", Text, nullable=False),
    Index("ix_inquiry_conversation_id", "conversation_id", "id"),
    Index("ix_inquiry_contact_id", "contact_id", "id"),
    Index("ix_inquiry_assignee_id", "assignee_id", "status", "updated_at"),
    Index("ix_inquiry_team_id", "team_id", "status", "updated_at"),
    Index("ix_inquiry_updated_at", "updated_at", "id"),
)

call = Table(
    "call",
    metadata,
    Column("id", Id, primary_key=True),
    Column("inbox_id", Big, ForeignKey("inbox.id"), nullable=False),
    Column("call_key", String(200), nullable=False),  # the provider's id of the whole call
    Column("direction", String(10), nullable=False),
    Column("from_number", String(20), nullable=True),
    Column("to_number", String(20), nullable=True),
    Column("did", String(20), nullable=True),
    Column("state", String(12), nullable=False),
    Column("disposition", String(20), nullable=True),
    Column("started_at", Ms, nullable=True),
    Column("answered_at", Ms, nullable=True),
    Column("ended_at", Ms, nullable=True),
    Column("missed_check_at", Ms, nullable=True),  # grace before an unanswered call is called missed
    Column("stuck_at", Ms, nullable=True),
    Column("finalized", Boolean, nullable=False),
    Column("contact_id", Big, nullable=True),
    Column("conversation_id", Big, nullable=True),
    Column("inquiry_id", Big, nullable=True),
    Column("agent_id", Big, nullable=True),
    Column("message_id", Big, nullable=True),  # its card in the thread
    Column("callback_attempt_id", Big, nullable=True),
    Column("correlation_id", String(80), nullable=True),
    Column("data", Json, nullable=False),  # the rest of the folded state
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    UniqueConstraint("inbox_id", "call_key", name="uq_call_key"),
    Index("ix_call_correlation_id", "correlation_id"),
    Index("ix_call_contact_id", "contact_id"),
    Index("ix_call_started_at", "started_at", "id"),  # planning reads the calls of a period
)
Index(
    "ix_inquiry_merged_into_id",
    inquiry.c.merged_into_id,
    postgresql_where=inquiry.c.merged_into_id.is_not(None),
    sqlite_where=inquiry.c.merged_into_id.is_not(None),
)
Index(
    "ix_inquiry_solved_at",
    inquiry.c.solved_at,
    postgresql_where=inquiry.c.status == "solved",
    sqlite_where=inquiry.c.status == "solved",
)
Index(
    "ix_inquiry_snooze_until",
    inquiry.c.snooze_until,
    postgresql_where=inquiry.c.snooze_until.is_not(None),
    sqlite_where=inquiry.c.snooze_until.is_not(None),
)
Index(
    "ix_call_missed_check_at",
    call.c.missed_check_at,
    postgresql_where=call.c.missed_check_at.is_not(None),
    sqlite_where=call.c.missed_check_at.is_not(None),
)
Index(
    "ix_call_stuck_at",
    call.c.stuck_at,
    postgresql_where=call.c.stuck_at.is_not(None),
    sqlite_where=call.c.stuck_at.is_not(None),
)
