"""The tables of the domain. Importing this package fills `metadata`; routing and bots add theirs."""

from crm_core.db.types import metadata
from crm_core.schema.contacts import company, contact, identity, identity_evidence, merge_suggestion
from crm_core.schema.conversations import attachment, conversation, message, message_ref
from crm_core.schema.inquiries import call, inquiry
from crm_core.schema.intake import inbound, inbox, inbox_state
from crm_core.schema.notices import notification, notification_line
from crm_core.schema.people import (
    agent,
    agent_skill,
    api_token,
    chat_session,
    idempotency,
    login_session,
    team,
    team_member,
)
from crm_core.schema.webhooks import webhook, webhook_delivery
from crm_core.schema.work import event, job, lease, setting, upload

__all__ = [
    "agent",
    "agent_skill",
    "api_token",
    "attachment",
    "call",
    "chat_session",
    "company",
    "contact",
    "conversation",
    "event",
    "idempotency",
    "identity",
    "identity_evidence",
    "inbound",
    "inbox",
    "inbox_state",
    "inquiry",
    "job",
    "lease",
    "login_session",
    "merge_suggestion",
    "message",
    "message_ref",
    "metadata",
    "notification",
    "notification_line",
    "setting",
    "team",
    "team_member",
    "upload",
    "webhook",
    "webhook_delivery",
]
