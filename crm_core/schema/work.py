"""The single log of events, durable jobs, leases, settings and uploads."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from crm_core.db.types import Big, Id, Json, Ms, metadata

event = Table(
    "event",
    metadata,
    Column("id", Id, primary_key=True),
    # Postgres: the writing transaction's id; SQLite: 0. (tx, id) below the snapshot horizon is a safe cursor
    # under concurrent commits; `id > last` is not (ADR 0003).
    Column("tx", Big, nullable=False),
    Column("kind", String(60), nullable=False),
    Column("at", Ms, nullable=False),
    Column("actor", String(60), nullable=False),  # agent:5 | contact:7 | bot | system | inbox:3
    Column("subject_kind", String(20), nullable=False),
    Column("subject_id", Big, nullable=False),
    Column("inquiry_id", Big, nullable=True),
    Column("conversation_id", Big, nullable=True),
    Column("payload", Json, nullable=False),
    Column("audience", Json, nullable=False),  # crm_core.access.Audience as data
    Index("ix_event_cursor", "tx", "id"),
    Index("ix_event_inquiry_id", "inquiry_id", "id"),
    Index("ix_event_conversation_id", "conversation_id", "id"),
)
# Who was there when: planning replays a period with the people that it had.
Index(
    "ix_event_presence",
    event.c.subject_id,
    event.c.at,
    postgresql_where=event.c.kind == "presence.changed",
    sqlite_where=event.c.kind == "presence.changed",
)

job = Table(
    "job",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(80), nullable=False),
    Column("args", Json, nullable=False),
    Column("queue", String(20), nullable=False),
    # Jobs of one lane run one at a time, by (order_key, id).
    Column("lane", String(300), nullable=True),
    Column("order_key", Big, nullable=False),
    Column("state", String(8), nullable=False),  # ready | leased | dead; a done job's row is gone
    Column("run_at", Ms, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("lease_until", Ms, nullable=True),
    Column("lease_token", String(32), nullable=True),
    Column("dedupe", String(200), nullable=True, unique=True),
    Column("last_error", Text, nullable=True),
    Column("created_at", Ms, nullable=False),
)
Index(
    "ix_job_ready",
    job.c.run_at,
    job.c.id,
    postgresql_where=job.c.state == "ready",
    sqlite_where=job.c.state == "ready",
)
Index(
    "ix_job_leased",
    job.c.lease_until,
    postgresql_where=job.c.state == "leased",
    sqlite_where=job.c.state == "leased",
)
Index(
    "ix_job_lane",
    job.c.lane,
    job.c.order_key,
    job.c.id,
    postgresql_where=job.c.lane.is_not(None),
    sqlite_where=job.c.lane.is_not(None),
)

lease = Table(
    "lease",
    metadata,
    Column("name", String(120), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("until", Ms, nullable=False),
    Column("token", Big, nullable=False),  # grows with every new owner: a fence
)

setting = Table(
    "setting",
    metadata,
    Column("key", String(80), primary_key=True),
    Column("value", Json, nullable=False),
)

upload = Table(
    "upload",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("owner", String(80), nullable=False),  # agent:5 or visitor:…
    Column("name", String(300), nullable=False),
    Column("mime", String(120), nullable=False),
    Column("size", Big, nullable=False),
    Column("blob_key", String(200), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created_at", Ms, nullable=False),
    Index("ix_upload_created_at", "created_at"),
)
