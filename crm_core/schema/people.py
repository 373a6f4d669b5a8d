"""Teams, agents, their skills, and what proves who is calling the API or the chat."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from crm_core.db.types import Big, Id, Json, Ms, metadata

team = Table(
    "team",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("calendar_id", Big, nullable=True),  # routing's calendar; None = always open
    Column("settings", Json, nullable=False),  # routing: step plan, offer modes, overflow, after-hours
    Column("active", Boolean, nullable=False),
    Column("created_at", Ms, nullable=False),
)

agent = Table(
    "agent",
    metadata,
    Column("id", Id, primary_key=True),
    Column("email", String(254), nullable=False, unique=True),  # lower case
    Column("name", String(200), nullable=False),
    Column("password_hash", Text, nullable=True),
    Column("role", String(20), nullable=False),  # agent | supervisor | admin
    Column("language", String(10), nullable=False),  # of the screens
    Column("extension", String(40), nullable=True),  # at the PBX
    Column("calendar_id", Big, nullable=True),  # shifts; None = the team's hours
    Column("settings", Json, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Ms, nullable=False),
    Index("ix_agent_extension", "extension"),
)

team_member = Table(
    "team_member",
    metadata,
    Column("team_id", Big, ForeignKey("team.id", ondelete="CASCADE"), primary_key=True),
    Column("agent_id", Big, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("lead", Boolean, nullable=False),
    Index("ix_team_member_agent_id", "agent_id"),
)

agent_skill = Table(
    "agent_skill",
    metadata,
    Column("agent_id", Big, ForeignKey("agent.id", ondelete="CASCADE"), primary_key=True),
    Column("skill", String(80), primary_key=True),  # namespaced: lang:uk, product:visa
    Column("level", Integer, nullable=False),  # 1-5
)

login_session = Table(
    "login_session",
    metadata,
    Column("token_hash", String(64), primary_key=True),  # SHA-256 hex; the token itself is never stored
    Column("agent_id", Big, ForeignKey("agent.id", ondelete="CASCADE"), nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("expires_at", Ms, nullable=False),
    Column("user_agent", String(300), nullable=True),
    Index("ix_login_session_agent_id", "agent_id"),
    Index("ix_login_session_expires_at", "expires_at"),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", Id, primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("agent_id", Big, ForeignKey("agent.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(120), nullable=False),
    Column("created_at", Ms, nullable=False),
    Column("expires_at", Ms, nullable=True),
    Column("last_used_at", Ms, nullable=True),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("agent_id", Big, primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("fingerprint", String(64), nullable=False),  # of method, path and body
    Column("status", Integer, nullable=True),  # None while the first request is at work
    Column("body", Text, nullable=True),
    Column("created_at", Ms, nullable=False),
    Index("ix_idempotency_created_at", "created_at"),
)

chat_session = Table(
    "chat_session",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("inbox_id", Big, ForeignKey("inbox.id", ondelete="CASCADE"), nullable=False),
    Column("visitor_id", String(64), nullable=False),
    Column("contact_id", Big, nullable=True),
    Column("locale", String(20), nullable=True),
    Column("facts", Json, nullable=False),  # page, referrer, utm, pre-chat answers
    Column("created_at", Ms, nullable=False),
    Column("expires_at", Ms, nullable=False),
    Column("last_seen_at", Ms, nullable=False),
    Index("ix_chat_session_visitor", "inbox_id", "visitor_id"),
    Index("ix_chat_session_expires_at", "expires_at"),
)

__all__ = [
    "agent",
    "agent_skill",
    "api_token",
    "chat_session",
    "idempotency",
    "login_session",
    "team",
    "team_member",
]
