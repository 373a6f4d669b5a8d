"""What people are told personally: notices gathered per person and minute, with their lines."""

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, UniqueConstraint

from crm_core.db.types import Big, Id, Json, Ms, metadata

# One per person, kind and minute: ten things in a minute are one notice with ten lines.
notification = Table(
    "notification",
    metadata,
    Column("id", Id, primary_key=True),
    Column("agent_id", Big, ForeignKey("agent.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(20), nullable=False),  # sla | page | storm
    Column("minute", Big, nullable=False),  # minutes since the epoch
    Column("lines", Integer, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Column("read_at", Ms, nullable=True),
    Column("mailed_at", Ms, nullable=True),
    UniqueConstraint("agent_id", "kind", "minute", name="uq_notification_minute"),
    Index("ix_notification_agent_id", "agent_id", "id"),
)
Index(
    "ix_notification_unread",
    notification.c.agent_id,
    notification.c.id,
    postgresql_where=notification.c.read_at.is_(None),
    sqlite_where=notification.c.read_at.is_(None),
)

notification_line = Table(
    "notification_line",
    metadata,
    Column("id", Id, primary_key=True),
    Column("notification_id", Big, ForeignKey("notification.id", ondelete="CASCADE"), nullable=False),
    Column("agent_id", Big, nullable=False),
    Column("source", String(80), nullable=False),  # what it tells of; told to each person once
    Column("inquiry_id", Big, nullable=True),
    Column("data", Json, nullable=False),
    Column("at", Ms, nullable=False),
    UniqueConstraint("agent_id", "source", name="uq_notification_line_source"),
    Index("ix_notification_line_notification_id", "notification_id", "id"),
)
