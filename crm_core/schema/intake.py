"""Connected accounts and the raw rows they hand over."""

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from crm_core.db.types import Big, Id, Json, Ms, metadata

inbox = Table(
    "inbox",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),  # random and public
    Column("channel", String(20), nullable=False),
    Column("name", String(120), nullable=False),
    Column("secret", String(200), nullable=False),
    Column("config", Json, nullable=False),
    Column("address", String(320), nullable=True),  # email address or DID, for look-up
    Column("team_id", Big, ForeignKey("team.id"), nullable=True),
    Column("default_kind", String(10), nullable=False),  # ticket | lead
    Column("flow_key", String(60), nullable=True),  # the dialog held before people
    Column("region", String(2), nullable=False),  # of numbers written without a country
    Column("language", String(10), nullable=False),
    Column("priority", String(10), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at", Ms, nullable=False),
    Index("ix_inbox_address", "address"),
)

inbox_state = Table(
    "inbox_state",
    metadata,
    Column("inbox_id", Big, ForeignKey("inbox.id", ondelete="CASCADE"), primary_key=True),
    Column("cursor", Json, nullable=False),  # of the poller; saved with the rows it stored
    Column("paused_until", Ms, nullable=True),  # the provider told us to wait
    Column("signature_failures", Big, nullable=False),
    Column("last_inbound_at", Ms, nullable=True),
    Column("last_error", String(500), nullable=True),
    Column("last_error_at", Ms, nullable=True),
)

inbound = Table(
    "inbound",
    metadata,
    Column("id", Id, primary_key=True),
    Column("inbox_id", Big, ForeignKey("inbox.id"), nullable=False),
    Column("dedupe_key", String(300), nullable=False),
    Column("lane", String(300), nullable=False),
    Column("order_key", Big, nullable=False),
    Column("content_type", String(120), nullable=False),
    Column("meta", Json, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("size", Integer, nullable=False),  # of the original; the body of a refused giant is cut
    Column("state", String(12), nullable=False),  # received | done | quarantined | discarded
    Column("error", Text, nullable=True),
    Column("received_at", Ms, nullable=False),
    Column("processed_at", Ms, nullable=True),
    UniqueConstraint("inbox_id", "dedupe_key", name="uq_inbound_dedupe_key"),
    Index("ix_inbound_state", "state", "id"),
)
