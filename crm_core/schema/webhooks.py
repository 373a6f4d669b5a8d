"""Programs of others that want to hear of events: where to post, and every post with its attempts."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from crm_core.db.types import Big, Id, Json, Ms, metadata

webhook = Table(
    "webhook",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", String(60), nullable=False, unique=True),  # how policies name it
    Column("name", String(120), nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", String(80), nullable=False),
    Column("events", Json, nullable=False),  # kinds, `sla.*` or `*`; empty: only what steps send
    Column("active", Boolean, nullable=False),
    Column("disabled_because", Text, nullable=True),
    Column("since", Ms, nullable=False),  # events from before are not sent
    Column("failing_since", Ms, nullable=True),
    Column("paused_until", Ms, nullable=True),  # after a failure: let it recover
    Column("failures", Integer, nullable=False),  # in a row
    Column("last_ok_at", Ms, nullable=True),
    Column("last_error", Text, nullable=True),
    Column("version", Integer, nullable=False),
    Column("created_at", Ms, nullable=False),
)

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", Id, primary_key=True),
    Column("webhook_id", Big, ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False),
    Column("event_key", String(80), nullable=False),  # X-Event-Id: the same in every attempt and replay
    Column("kind", String(60), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(10), nullable=False),  # pending | delivered | failed | held
    Column("attempts", Integer, nullable=False),  # of the present series; a replay starts at 0
    Column("history", Json, nullable=False),  # the latest attempts: [{at, status, error, ms}]
    Column("next_at", Ms, nullable=True),
    Column("created_at", Ms, nullable=False),
    Column("ended_at", Ms, nullable=True),
    UniqueConstraint("webhook_id", "event_key", name="uq_webhook_delivery_event"),
    Index("ix_webhook_delivery_webhook_id", "webhook_id", "id"),
    Index("ix_webhook_delivery_state", "webhook_id", "state", "id"),
    Index("ix_webhook_delivery_created_at", "created_at"),
)
