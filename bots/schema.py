"""The bots' tables: flows as data, and the dialogs that run them."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from crm_core.db.types import Big, Id, Json, Ms, metadata

flow = Table(
    "flow",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", String(60), nullable=False),
    Column("version", Integer, nullable=False),
    Column("source", Text, nullable=False),  # the YAML as written; validated before it is stored
    Column("current", Boolean, nullable=False),
    Column("created_at", Ms, nullable=False),
    UniqueConstraint("key", "version", name="uq_flow_version"),
)

dialog = Table(
    "dialog",
    metadata,
    Column("id", Id, primary_key=True),
    Column("conversation_id", Big, ForeignKey("conversation.id"), nullable=False),
    Column("inquiry_id", Big, nullable=True),
    Column("flow_key", String(60), nullable=False),
    Column("flow_version", Integer, nullable=False),
    Column("node", String(60), nullable=False),
    Column("vars", Json, nullable=False),  # what the customer answered
    Column("state", String(10), nullable=False),  # active | handed_off | ended
    Column("language", String(10), nullable=False),
    Column("misses", Integer, nullable=False),  # answers in a row that the node did not understand
    Column("idle_at", Ms, nullable=True),  # when silence ends the wait
    Column("version", Integer, nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
)
Index(
    "uq_dialog_active",
    dialog.c.conversation_id,
    unique=True,
    postgresql_where=dialog.c.state == "active",
    sqlite_where=dialog.c.state == "active",
)
Index(
    "ix_dialog_idle_at",
    dialog.c.idle_at,
    postgresql_where=dialog.c.idle_at.is_not(None),
    sqlite_where=dialog.c.idle_at.is_not(None),
)
