"""Outbound webhooks for admins: endpoints, their deliveries with every attempt, test and replay."""

from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.fields import Comma, In, InstantOut, Out, Page, PageQuery, RowId, ShortQuery
from api.layer.paging import cut, page_in_memory, page_of
from api.layer.routes import Call, Data, Routes
from crm_core import webhooks
from crm_core.db.uow import UnitOfWork
from crm_core.errors import NotFound
from crm_core.schema import webhook, webhook_delivery
from crm_core.views import iso

routes = Routes("webhooks", role="admin")

Key = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,59}$", description="how SLA policies name it")]
Title = Annotated[str, Field(min_length=1, max_length=120)]
Url = Annotated[str, Field(min_length=1, max_length=2000)]
Pattern = Annotated[
    str,
    Field(pattern=r"^(\*|[a-z_]{1,28}\.(\*|[a-z_]{1,28}))$", description="`sla.breached`, `sla.*` or `*`"),
]
Patterns = Annotated[list[Pattern], Field(max_length=50)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
State = Literal["pending", "delivered", "failed", "held"]


class WebhookOut(Out):
    id: int
    key: str
    name: str
    url: str
    events: list[str]
    active: bool
    disabled_because: str | None
    failing_since: InstantOut | None
    last_ok_at: InstantOut | None
    last_error: str | None
    version: int
    created_at: InstantOut


class WebhookMadeOut(WebhookOut):
    secret: Annotated[str, Field(description="shown this once")]


class WebhookIn(In):
    key: Key
    name: Title
    url: Url
    events: Patterns = Field(default_factory=list)
    active: bool = True


class WebhookChangeIn(In):
    name: Title | None = None
    url: Url | None = None
    events: Patterns | None = None
    active: bool | None = None
    version: Version | None = None


class AttemptOut(Out):
    at: InstantOut
    status: int | None
    error: str | None
    ms: int


class DeliveryOut(Out):
    id: int
    webhook_id: int
    event_key: str
    kind: str
    state: State
    attempts: int
    history: list[AttemptOut]
    next_at: InstantOut | None
    created_at: InstantOut
    ended_at: InstantOut | None


class DeliveryDetailOut(DeliveryOut):
    body: str


class DeliveriesQuery(PageQuery):
    state: Annotated[list[State], Comma] | None = None


def _view(row: Any) -> Data:
    plain = {name: row[name] for name in ("id", "key", "name", "url", "events", "active", "version")}
    return {
        **plain,
        "disabled_because": row["disabled_because"],
        "failing_since": iso(row["failing_since"]),
        "last_ok_at": iso(row["last_ok_at"]),
        "last_error": row["last_error"],
        "created_at": iso(row["created_at"]),
    }


def _delivery(row: Any) -> Data:
    names = ("id", "webhook_id", "event_key", "kind", "state", "attempts", "history")
    return {name: row[name] for name in names} | {
        "next_at": iso(row["next_at"]),
        "created_at": iso(row["created_at"]),
        "ended_at": iso(row["ended_at"]),
    }


@routes.get("/webhooks")
async def list_webhooks(conn: AsyncConnection, query: ShortQuery) -> Annotated[Data, Page[WebhookOut]]:
    """All endpoints."""
    rows = (await conn.execute(select(webhook).order_by(webhook.c.id))).mappings()
    items = [_view(row) for row in rows]
    return page_in_memory(items, cursor=query.cursor, limit=query.limit, key=lambda r: (r["id"],))


@routes.post("/webhooks", status=201, secret=True, errors=(409,))
async def create_webhook(call: Call, uow: UnitOfWork, body: WebhookIn) -> Annotated[Data, WebhookMadeOut]:
    """Add an endpoint. The secret that signs is in the answer, and never again."""
    row = await webhooks.create(
        uow, key=body.key, name=body.name, url=body.url, events=body.events, active=body.active,
        actor=call.actor.label,
    )  # fmt: skip
    return {**_view(row), "secret": row["secret"]}


@routes.get("/webhooks/{id}")
async def show_webhook(conn: AsyncConnection, id: RowId) -> Annotated[Data, WebhookOut]:  # noqa: A002
    """One endpoint and how it does."""
    row = (await conn.execute(select(webhook).where(webhook.c.id == id))).mappings().first()
    if row is None:
        raise NotFound(f"no webhook {id}", params={"webhook_id": id})
    return _view(row)


@routes.patch("/webhooks/{id}", errors=(409,))
async def change_webhook(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
    body: WebhookChangeIn,
) -> Annotated[Data, WebhookOut]:
    """Change an endpoint, or switch it off and on. On again, it gets what waited for it."""
    changes = {k: v for k, v in body.changes().items() if v is not None}
    expected = changes.pop("version", None)
    return _view(await webhooks.change(uow, id, changes, expected_version=expected, actor=call.actor.label))


@routes.delete("/webhooks/{id}")
async def delete_webhook(call: Call, uow: UnitOfWork, id: RowId) -> None:  # noqa: A002
    """Delete an endpoint with its deliveries."""
    await webhooks.remove(uow, id, actor=call.actor.label)


@routes.post("/webhooks/{id}/rotate-secret", secret=True)
async def rotate_secret(
    call: Call,
    uow: UnitOfWork,
    id: RowId,  # noqa: A002
) -> Annotated[Data, WebhookMadeOut]:
    """Make a new secret; the old one signs nothing from now on."""
    row = await webhooks.rotate(uow, id, actor=call.actor.label)
    return {**_view(row), "secret": row["secret"]}


@routes.post("/webhooks/{id}/test", status=201, errors=(409,))
async def test_webhook(call: Call, uow: UnitOfWork, id: RowId) -> Annotated[Data, DeliveryOut]:  # noqa: A002
    """Post a test; look at the delivery to see what became of it."""
    return _delivery(await webhooks.test(uow, id, actor=call.actor.label))


@routes.get("/webhooks/{id}/deliveries")
async def list_deliveries(
    conn: AsyncConnection,
    id: RowId,  # noqa: A002
    query: DeliveriesQuery,
) -> Annotated[Data, Page[DeliveryOut]]:
    """Deliveries of an endpoint, the newest first."""
    if await conn.scalar(select(webhook.c.id).where(webhook.c.id == id)) is None:
        raise NotFound(f"no webhook {id}", params={"webhook_id": id})
    statement = select(*(c for c in webhook_delivery.c if c.name != "body"))
    statement = statement.where(webhook_delivery.c.webhook_id == id)
    if query.state:
        statement = statement.where(webhook_delivery.c.state.in_(query.state))
    page = page_of(statement, [(webhook_delivery.c.id, True)], cursor=query.cursor, limit=query.limit)
    rows, following = cut((await conn.execute(page)).mappings().all(), query.limit, lambda r: (r["id"],))
    return {"items": [_delivery(row) for row in rows], "next": following}


@routes.get("/webhook-deliveries/{id}")
async def show_delivery(conn: AsyncConnection, id: RowId) -> Annotated[Data, DeliveryDetailOut]:  # noqa: A002
    """One delivery with its body and its latest attempts."""
    statement = select(webhook_delivery).where(webhook_delivery.c.id == id)
    row = (await conn.execute(statement)).mappings().first()
    if row is None:
        raise NotFound(f"no webhook delivery {id}", params={"delivery_id": id})
    return {**_delivery(row), "body": row["body"]}


@routes.post("/webhook-deliveries/{id}/replay", errors=(409,))
async def replay_delivery(uow: UnitOfWork, id: RowId) -> Annotated[Data, DeliveryOut]:  # noqa: A002
    """Post a delivery again, with the same id and body."""
    return _delivery(await webhooks.replay(uow, id))
