"""The JSON shapes of the domain, shared by the API and by event payloads, so a thing looks the same everywhere.

Rows come in as mappings; instants go out as ISO 8601.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from crm_core.clock import to_iso

Data = dict[str, Any]
RowLike = Mapping[str, Any]

#: an inquiry's number is its id moved up, so that the first ticket does not look like the first ticket
NUMBER_BASE = 1_000


def iso(ms: int | None) -> str | None:
    return None if ms is None else to_iso(ms)


def attachment_view(row: RowLike) -> Data:
    stored = row["state"] == "stored"
    return {
        "id": row["id"],
        "name": row["name"],
        "mime": row["mime"],
        "size": row["size"],
        "state": row["state"],
        "error": row["error"],
        "inline_cid": row["inline_cid"],
        "url": f"/api/v1/attachments/{row['id']}" if stored else None,
    }


def message_view(row: RowLike, attachments: Iterable[RowLike] = ()) -> Data:
    return {
        "id": row["id"],
        "seq": row["seq"],
        "conversation_id": row["conversation_id"],
        "inquiry_id": row["inquiry_id"],
        "direction": row["direction"],
        "kind": row["kind"],
        "author": {"kind": row["author_kind"], "id": row["author_id"], "name": row["author_name"]},
        "text": row["text"],
        "quoted_text": row["quoted_text"],
        "html": row["html"],
        "subject": row["subject"],
        "attachments": [attachment_view(a) for a in attachments],
        "state": row["state"],
        "error": row["error"],
        "client_id": row["client_id"],
        "reply_to_id": row["reply_to_id"],
        "automatic": row["automatic"],
        "meta": row["meta"],
        "occurred_at": iso(row["occurred_at"]),
        "created_at": iso(row["created_at"]),
        "sent_at": iso(row["sent_at"]),
    }


def inquiry_brief(row: RowLike) -> Data:
    """What fits into an event: the inquiry's own columns, no joins."""
    return {
        "id": row["id"],
        "number": row["id"] + NUMBER_BASE,
        "kind": row["kind"],
        "status": row["status"],
        "stage": row["stage"],
        "outcome": row["outcome"],
        "subject": row["subject"],
        "channel": row["channel"],
        "priority": row["priority"],
        "language": row["language"],
        "inbox_id": row["inbox_id"],
        "conversation_id": row["conversation_id"],
        "contact_id": row["contact_id"],
        "team_id": row["team_id"],
        "assignee_id": row["assignee_id"],
        "tags": row["tags"],
        "held_by_bot": row["held_by_bot"],
        "version": row["version"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
    }


def call_view(row: RowLike) -> Data:
    return {
        "id": row["id"],
        "direction": row["direction"],
        "from": row["from_number"] or row["data"].get("from_raw"),
        "to": row["to_number"] or row["data"].get("to_raw"),
        "did": row["did"],
        "state": row["state"],
        "disposition": row["disposition"],
        "started_at": iso(row["started_at"]),
        "answered_at": iso(row["answered_at"]),
        "ended_at": iso(row["ended_at"]),
        "contact_id": row["contact_id"],
        "inquiry_id": row["inquiry_id"],
        "conversation_id": row["conversation_id"],
        "agent_id": row["agent_id"],
    }
