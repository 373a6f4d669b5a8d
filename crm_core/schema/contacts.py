"""Persons, organisations and their addresses, each with the evidence for it."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, String, Table, Text, UniqueConstraint

from crm_core.db.types import Big, Id, Json, Ms, metadata

company = Table(
    "company",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(300), nullable=False),
    Column("domain", String(253), nullable=True),
    Column("attributes", Json, nullable=False),
    Column("created_at", Ms, nullable=False),
    Index("ix_company_domain", "domain"),
)

contact = Table(
    "contact",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(300), nullable=True),
    Column("company_id", Big, ForeignKey("company.id"), nullable=True),
    Column("manager_id", Big, ForeignKey("agent.id"), nullable=True),  # the responsible agent
    Column("locale", String(20), nullable=True),  # BCP 47; the language part decides greetings and skills
    Column("timezone", String(60), nullable=True),  # only if somebody said so; else derived from the phone
    Column("vip", Boolean, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("attributes", Json, nullable=False),
    Column("merged_into_id", Big, ForeignKey("contact.id"), nullable=True),  # ids of losers stay and redirect
    Column("search_text", Text, nullable=False),  # written by crm_core.search.normalize
    Column("created_at", Ms, nullable=False),
    Column("updated_at", Ms, nullable=False),
    Index("ix_contact_manager_id", "manager_id"),
)

identity = Table(
    "identity",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact_id", Big, ForeignKey("contact.id"), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("value", String(320), nullable=False),
    Column("account", String(80), nullable=False),  # "" where the value is unique in the world
    Column("verified_at", Ms, nullable=True),
    Column("unreachable_at", Ms, nullable=True),  # blocked us, hard bounce
    Column("first_seen_at", Ms, nullable=False),
    Column("last_seen_at", Ms, nullable=False),
    UniqueConstraint("kind", "value", "account", name="uq_identity_address"),
    Index("ix_identity_contact_id", "contact_id"),
)

identity_evidence = Table(
    "identity_evidence",
    metadata,
    Column("id", Id, primary_key=True),
    Column("identity_id", Big, ForeignKey("identity.id", ondelete="CASCADE"), nullable=False),
    Column("contact_id", Big, nullable=False),  # who was said to have this address, then
    Column("kind", String(30), nullable=False),  # contact_share, caller_id, from_header, jwt, form …
    Column("inbound_id", Big, nullable=True),
    Column("at", Ms, nullable=False),
    UniqueConstraint("identity_id", "contact_id", "kind", name="uq_identity_evidence_once"),
)

merge_suggestion = Table(
    "merge_suggestion",
    metadata,
    Column("id", Id, primary_key=True),
    Column("contact_id", Big, ForeignKey("contact.id"), nullable=False),
    Column("other_id", Big, ForeignKey("contact.id"), nullable=False),
    Column("identity_id", Big, ForeignKey("identity.id"), nullable=False),
    Column("state", String(12), nullable=False),  # open | merged | dismissed
    Column("created_at", Ms, nullable=False),
    UniqueConstraint("contact_id", "other_id", name="uq_merge_suggestion_pair"),
)
