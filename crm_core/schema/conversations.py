"""Threads and what was said in them."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from crm_core.db.types import Big, Id, Json, Ms, metadata

conversation = Table(
    "conversation",
    metadata,
    Column("id", Id, primary_key=True),
    Column("inbox_id", Big, ForeignKey("inbox.id"), nullable=False),
    Column("contact_id", Big, ForeignKey("contact.id"), nullable=False),
    Column("key", String(500), nullable=False),  # the channel's name for the thread
    Column(
        "address", String(500), nullable=False
    ),  # where replies go: chat id, email address, E.164, visitor
    Column("channel", String(20), nullable=False),
    Column("subject", String(500), nullable=True),
    Column("language", String(10), nullable=False),
    Column("last_seq", Big, nullable=False),  # of the newest message; gap-free
    Column("customer_read_seq", Big, nullable=False),
    Column("agent_read_seq", Big, nullable=False),
    Column("sticky_agent_id", Big, nullable=True),  # who served it last (routing.md §5)
    Column("sticky_until", Ms, nullable=True),
    Column("last_customer_at", Ms, nullable=True),
    # The inquiry that new words belong to although it is at home in another thread now (crm_core.merging).
    Column("continues_in_id", Big, nullable=True),
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    UniqueConstraint("inbox_id", "key", name="uq_conversation_key"),
    Index("ix_conversation_contact_id", "contact_id"),
)
Index(
    "ix_conversation_continues_in_id",
    conversation.c.continues_in_id,
    postgresql_where=conversation.c.continues_in_id.is_not(None),
    sqlite_where=conversation.c.continues_in_id.is_not(None),
)

message = Table(
    "message",
    metadata,
    Column("id", Id, primary_key=True),
    Column("conversation_id", Big, ForeignKey("conversation.id"), nullable=False),
    Column("inquiry_id", Big, ForeignKey("inquiry.id"), nullable=True),
    Column("seq", Big, nullable=False),
    Column("direction", String(10), nullable=False),  # in | out | internal
    Column("kind", String(12), nullable=False),  # text | note | call | system | callback
    Column("author_kind", String(10), nullable=False),  # customer | agent | bot | system, judged when written
    Column("author_id", Big, nullable=True),
    Column("author_name", String(200), nullable=True),
    Column("text", Text, nullable=False),
    Column("quoted_text", Text, nullable=True),
    Column("html", Text, nullable=True),
    Column("subject", String(500), nullable=True),
    Column(
        "state", String(12), nullable=False
    ),  # received | queued | sending | sent | delivered | read | failed | unknown
    Column("error", String(500), nullable=True),
    Column("client_id", String(64), nullable=True),
    Column("reply_to_id", Big, nullable=True),
    Column("automatic", Boolean, nullable=False),
    Column("sent_parts", Integer, nullable=False),
    Column("meta", Json, nullable=False),  # buttons, entities, call id, edits' history, warnings
    Column("occurred_at", Ms, nullable=False),  # the provider's time, for display
    Column("created_at", Ms, nullable=False),  # ours, for clocks
    Column("sent_at", Ms, nullable=True),
    UniqueConstraint("conversation_id", "seq", name="uq_message_seq"),
    UniqueConstraint("conversation_id", "client_id", name="uq_message_client_id"),
    Index("ix_message_inquiry_id", "inquiry_id", "seq"),
)

message_ref = Table(
    "message_ref",
    metadata,
    Column("inbox_id", Big, primary_key=True),
    Column("external_id", String(500), primary_key=True),  # the provider's id; a split message has several
    Column("message_id", Big, ForeignKey("message.id"), nullable=False),
    Column("conversation_id", Big, nullable=False),
    Index("ix_message_ref_message_id", "message_id"),
)

attachment = Table(
    "attachment",
    metadata,
    Column("id", Id, primary_key=True),
    Column("message_id", Big, ForeignKey("message.id"), nullable=False),
    Column("name", String(300), nullable=False),
    Column("mime", String(120), nullable=False),  # as sniffed, once stored
    Column("size", Big, nullable=True),
    Column("state", String(12), nullable=False),  # pending | stored | too_big | refused | failed
    Column("error", String(300), nullable=True),
    Column("provider_ref", Text, nullable=True),
    Column("blob_key", String(200), nullable=True),
    Column("sha256", String(64), nullable=True),
    Column("inline_cid", String(300), nullable=True),
    Column("created_at", Ms, nullable=False),
    Index("ix_attachment_message_id", "message_id"),
    Index("ix_attachment_blob_key", "blob_key"),
)
