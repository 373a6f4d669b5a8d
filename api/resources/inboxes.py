"""Connected accounts. Secrets go in and never come out again; a new one is shown once."""

import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.keys import INBOXES
from api.layer.fields import In, InstantOut, OpenOut, Out, Page, RowId, ShortQuery
from api.layer.paging import page_in_memory
from api.layer.routes import Call, Data, Routes
from channels import CHANNEL_KEYS, get_channel
from crm_core.access import Actor
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid, NotFound
from crm_core.events import EVERYONE, DomainEvent
from crm_core.inboxes import mail_addresses
from crm_core.phone import is_region
from crm_core.schema import inbox, inbox_state, team
from crm_core.services import AppSettings
from crm_core.views import iso

routes = Routes("inboxes")

HIDDEN = "•••"
#: keys of `config` that belong to the edge or the core, not to the channel's adapter
_COMMON = frozenset({"origins", "title", "greeting", "color", "pre_chat", "expected_reply_s", "timezone"})


class HealthOut(Out):
    state: Literal["ok", "error", "idle", "paused", "off"]
    detail: str | None
    checked_at: InstantOut | None
    last_inbound_at: InstantOut | None
    signature_failures: int


class InboxOut(Out):
    id: int
    key: str
    channel: str
    name: str
    team_id: int | None
    default_kind: str
    flow_key: str | None
    region: str
    language: str
    priority: str
    enabled: bool
    address: str | None
    config: dict[str, Any]
    hook_url: str | None
    health: HealthOut


class NewInboxOut(InboxOut):
    secret: Annotated[str, Field(description="for signatures; shown this once")]


class InboxIn(In):
    channel: Annotated[str, Field(json_schema_extra={"enum": list(CHANNEL_KEYS)})]
    name: Annotated[str, Field(min_length=1, max_length=120)]
    config: dict[str, Any] = Field(default_factory=dict)
    secret: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    address: Annotated[str, Field(max_length=320)] | None = None
    team_id: RowId | None = None
    default_kind: Literal["ticket", "lead"] = "ticket"
    flow_key: Annotated[str, Field(max_length=60)] | None = None
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "UA"
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] = "en"
    priority: Literal["low", "normal", "high", "urgent"] = "normal"
    enabled: bool = True


class InboxChangeIn(In):
    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    config: dict[str, Any] | None = None
    secret: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    address: Annotated[str, Field(max_length=320)] | None = None
    team_id: RowId | None = None
    default_kind: Literal["ticket", "lead"] | None = None
    flow_key: Annotated[str, Field(max_length=60)] | None = None
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] | None = None
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    priority: Literal["low", "normal", "high", "urgent"] | None = None
    enabled: bool | None = None


class ChannelOut(OpenOut):
    key: str
    title: str
    config_keys: dict[str, str]
    secret_keys: list[str]


def show_inbox(
    row: Mapping[Any, Any], state: Mapping[Any, Any] | None, actor: Actor, settings: AppSettings, now: int
) -> Data:
    """The shape of an inbox; only admins see the configuration, and nobody a secret."""
    spec = get_channel(row["channel"]).spec if row["channel"] in CHANNEL_KEYS else None
    hidden = spec.secret_keys if spec else frozenset(row["config"])
    config = (
        {k: HIDDEN if k in hidden and v else v for k, v in row["config"].items()}
        if actor.has_role("admin")
        else {}
    )
    hook = row["channel"] in ("telegram", "telephony", "form", "email")
    return {
        "id": row["id"],
        "key": row["key"],
        "channel": row["channel"],
        "name": row["name"],
        "team_id": row["team_id"],
        "default_kind": row["default_kind"],
        "flow_key": row["flow_key"],
        "region": row["region"],
        "language": row["language"],
        "priority": row["priority"],
        "enabled": row["enabled"],
        "address": row["address"],
        "config": config,
        "hook_url": f"{settings.public_url.rstrip('/')}/hooks/{row['key']}" if hook else None,
        "health": _health(row, state, now),
    }


def _health(row: Mapping[Any, Any], state: Mapping[Any, Any] | None, now: int) -> Data:
    last, error_at = (state["last_inbound_at"], state["last_error_at"]) if state else (None, None)
    name, detail = ("ok", None) if last is not None else ("idle", None)
    if state and error_at is not None and error_at >= (last or 0):
        name, detail = "error", state["last_error"]
    if state and state["paused_until"] is not None and state["paused_until"] > now:
        name, detail = "paused", "the provider asked us to wait"
    if not row["enabled"]:
        name, detail = "off", None
    checked = max((t for t in (last, error_at) if t is not None), default=None)
    return {
        "state": name,
        "detail": detail,
        "checked_at": iso(checked),
        "last_inbound_at": iso(last),
        "signature_failures": state["signature_failures"] if state else 0,
    }


@routes.get("/inboxes")
async def list_inboxes(
    call: Call, conn: AsyncConnection, query: ShortQuery
) -> Annotated[Data, Page[InboxOut]]:
    """All connected accounts with their health."""
    rows = (await conn.execute(select(inbox).order_by(inbox.c.id))).mappings().all()
    states = {s["inbox_id"]: s for s in (await conn.execute(select(inbox_state))).mappings()}
    settings = call.services.settings
    items = [show_inbox(r, states.get(r["id"]), call.actor, settings, call.now) for r in rows]
    return page_in_memory(items, cursor=query.cursor, limit=query.limit, key=lambda r: (r["id"],))


@routes.get("/channels", role="admin")
async def list_channels() -> Annotated[Data, Page[ChannelOut]]:
    """The kinds of accounts that can be connected, and what each needs to know."""
    specs = [get_channel(key).spec for key in CHANNEL_KEYS]
    return {
        "items": [
            {
                "key": s.key,
                "title": s.title,
                "config_keys": dict(s.config_keys),
                "secret_keys": sorted(s.secret_keys),
                "buttons": s.buttons,
                "replies": s.replies,
            }
            for s in specs
        ],
        "next": None,
    }


@routes.get("/inboxes/{id}")
async def show(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, InboxOut]:  # noqa: A002
    """One connected account."""
    return await _one(call, conn, id)


async def _one(call: Call, conn: AsyncConnection, inbox_id: int) -> Data:
    row = (await conn.execute(select(inbox).where(inbox.c.id == inbox_id))).mappings().first()
    if row is None:
        raise NotFound(f"no inbox {inbox_id}", params={"inbox_id": inbox_id})
    state = (
        (await conn.execute(select(inbox_state).where(inbox_state.c.inbox_id == inbox_id))).mappings().first()
    )
    return show_inbox(row, state, call.actor, call.services.settings, call.now)


@routes.post("/inboxes", role="admin", status=201, secret=True)
async def create(call: Call, uow: UnitOfWork, body: InboxIn) -> Annotated[Data, NewInboxOut]:
    """Connect an account."""
    if body.channel not in CHANNEL_KEYS:
        raise Invalid(
            f"channel must be one of {', '.join(CHANNEL_KEYS)}",
            params={"errors": [{"loc": ["body", "channel"], "msg": "unknown"}]},
        )
    check_config(body.channel, body.config)
    check_region(body.region)
    await _check_team(uow, body.team_id)
    await _check_addresses(uow, {**body.model_dump(), "id": None})
    secret = body.secret or secrets.token_urlsafe(32)
    values = {**body.model_dump(), "key": secrets.token_urlsafe(18), "secret": secret, "created_at": uow.now}
    inbox_id = await uow.insert(inbox, values)
    await _tell(call, uow, inbox_id, "inbox.created")
    return {**await _one(call, uow.conn, inbox_id), "secret": secret}


@routes.patch("/inboxes/{id}", role="admin")
async def change(call: Call, uow: UnitOfWork, id: RowId, body: InboxChangeIn) -> Annotated[Data, InboxOut]:  # noqa: A002
    """Change an account. Secrets sent back as they were shown (•••) stay as they are."""
    row = await uow.row(uow.lock(select(inbox).where(inbox.c.id == id)))
    if row is None:
        raise NotFound(f"no inbox {id}", params={"inbox_id": id})
    changes = body.changes()
    for name in changes.keys() - {"address", "team_id", "flow_key"}:
        if changes[name] is None:
            raise Invalid(
                f"{name} cannot be null",
                params={"errors": [{"loc": ["body", name], "msg": "cannot be null"}]},
            )
    if "config" in changes:
        changes["config"] = {
            k: row["config"].get(k) if v == HIDDEN else v for k, v in changes["config"].items()
        }
        check_config(row["channel"], changes["config"])
    check_region(changes.get("region"))
    await _check_team(uow, changes.get("team_id"))
    await _check_addresses(uow, {**row, **changes})
    if changes:
        await uow.execute(update(inbox).where(inbox.c.id == id).values(**changes))
        await _tell(call, uow, id, "inbox.updated")
    return await _one(call, uow.conn, id)


async def _tell(call: Call, uow: UnitOfWork, inbox_id: int, kind: str) -> None:
    await uow.emit(
        DomainEvent(
            kind=kind, subject_kind="inbox", subject_id=inbox_id, actor=call.actor.label, audience=EVERYONE
        )
    )
    uow.after_commit(call.request.app[INBOXES].forget)


async def _check_team(uow: UnitOfWork, team_id: int | None) -> None:
    if team_id is not None and await uow.scalar(select(team.c.id).where(team.c.id == team_id)) is None:
        raise Invalid("no such team", params={"errors": [{"loc": ["body", "team_id"], "msg": "unknown"}]})


async def _check_addresses(uow: UnitOfWork, row: Mapping[str, Any]) -> None:
    """A mail has one inbox: a second one with the same address would take it all from the first."""
    if row["channel"] != "email" or not row["enabled"]:
        return
    wanted = set(mail_addresses(row))
    for other in await uow.rows(select(inbox).where(inbox.c.channel == "email", inbox.c.enabled)):
        both = wanted & set(mail_addresses(other))
        if other["id"] != row["id"] and both:
            raise Invalid(
                f"{min(both)} is the address of the inbox {other['name']!r} already",
                code="address_taken",
                params={"errors": [{"loc": ["body", "config", "address"], "msg": "taken"}]},
            )


def check_region(region: str | None) -> None:
    """Numbers without a country code are read by it. Raises Invalid."""
    if region is not None and not is_region(region):
        raise Invalid(
            "no such region",
            params={"errors": [{"loc": ["body", "region"], "msg": "no country with telephones"}]},
        )


def check_config(channel: str, config: Mapping[str, Any]) -> None:
    """The keys the channel declares: required ones are there, unknown ones are not, values fit. Raises Invalid."""
    adapter = get_channel(channel)
    declared = adapter.spec.config_keys
    known = {key.rstrip("?") for key in declared} | _COMMON
    errors = [
        {"loc": ["body", "config", key], "msg": f"unknown; known are {', '.join(sorted(known))}"}
        for key in sorted(set(config) - known)
    ]
    errors += [
        {"loc": ["body", "config", key], "msg": f"needed: {text}"}
        for key, text in declared.items()
        if not key.endswith("?") and config.get(key) in (None, "")
    ]
    named = {error["loc"][-1] for error in errors}
    errors += [
        {"loc": ["body", "config", key], "msg": text}
        for key, text in adapter.check(config).items()
        if key not in named
    ]
    if errors:
        raise Invalid("the configuration does not fit this channel", params={"errors": errors})
