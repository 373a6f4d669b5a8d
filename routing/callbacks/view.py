"""A callback as the API and the feed show it."""

from collections.abc import Iterable, Mapping
from typing import Any

from crm_core.views import iso


def callback_view(row: Mapping[str, Any], attempts: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    return {
        "id": row["id"],
        "contact_id": row["contact_id"],
        "inquiry_id": row["inquiry_id"],
        "conversation_id": row["conversation_id"],
        "phone": row["phone"],
        "timezone": row["timezone"],
        "timezone_source": row["timezone_source"],
        "window_start": iso(row["window_start"]),
        "window_end": iso(row["window_end"]),
        "due_at": iso(row["due_at"]),
        "state": row["state"],
        "mode": row["mode"],
        "owner_id": row["owner_id"],
        "team_id": row["team_id"],
        "attempts": [
            {
                "n": a["n"],
                "at": iso(a["started_at"]),
                "ended_at": iso(a["ended_at"]),
                "agent_id": a["agent_id"],
                "mode": a["mode"],
                "style": a["style"],
                "outcome": a["outcome"],
                "counted": a["counted"],
                "call_id": a["call_id"],
                "state": a["state"],
                "note": a["note"],
            }
            for a in attempts
        ],
        "counted_attempts": row["counted_attempts"],
        "max_attempts": row["max_attempts"],
        "next_attempt_at": iso(row["next_attempt_at"]),
        "outcome": row["outcome"],
        "note": row["note"],
        "source": row["source"],
        "created_by": row["created_by"],
        "created_at": iso(row["created_at"]),
        "escalated_at": iso(row["escalated_at"]),
        "kept_at": iso(row["kept_at"]),
        "version": row["version"],
        "kind": row["kind"],
        "kept_by": iso(row["kept_by"]),
        "first_dialled_at": iso(row["first_dialled_at"]),
        "escalation": row["escalation"],
        "ended_by": row["ended_by"],
        "end_reason": row["end_reason"],
        "paused_at": iso(row["paused_at"]),
        "pause_cause": row["pause_cause"],
        "enqueued_at": iso(row["enqueued_at"]),
        "chain": [
            {
                "agent_id": link["agent_id"],
                "role": link["role"],
                "from": iso(link["from"]),
                "until": iso(link["until"]),
                "result": link["result"],
            }
            for link in row["chain"] or ()
        ],
    }
