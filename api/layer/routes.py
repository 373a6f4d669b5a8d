"""Declare endpoints: a typed function becomes a route, its checks and its part of the document.

    @routes.get("/inquiries/{id}", errors=(404,))
    async def show(call: Call, conn: AsyncConnection, id: RowId) -> Annotated[Data, InquiryOut]: ...

Parameters are told apart by type and name: `call: Call`; `conn: AsyncConnection` (a read) or `uow: UnitOfWork` (one
transaction around the whole handler); `body` and `query` (models); everything else is a part of the path.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from aiohttp import web
from pydantic import BaseModel, TypeAdapter
from sqlalchemy.ext.asyncio import AsyncConnection

from api.layer.bodies import MAX_JSON
from crm_core.access import Actor
from crm_core.db.engine import Database
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Unauthorized
from crm_core.services import Services

Data = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way through a handler."""

    request: web.Request
    services: Services
    caller: Actor | None = None
    #: "cookie", "token", or None
    by: str | None = None
    #: SHA-256 hex of the session or token the caller came with
    credential: str | None = None

    @property
    def actor(self) -> Actor:
        """Raises Unauthorized on an endpoint that is open to strangers and got one."""
        if self.caller is None:
            raise Unauthorized("log in first")
        return self.caller

    @property
    def db(self) -> Database:
        return self.services.db

    @property
    def now(self) -> int:
        return self.services.clock.now_ms()


@dataclass(frozen=True, slots=True)
class Answer:
    """A result with another status, with headers, or with a last touch to the response (cookies)."""

    data: Any = None
    status: int = 200
    headers: Mapping[str, str] | None = None
    prepare: Callable[[web.StreamResponse], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    role: str | None  # None: open to strangers
    tag: str
    status: int
    errors: tuple[int, ...]
    max_body: int
    consumes: str  # of a body that the handler reads itself, "" if there is none
    produces: str
    repeatable: bool  # a repetition is answered with 200 and what is there already
    secret: bool  # the answer must not be stored for an Idempotency-Key
    body: type[BaseModel] | None
    query: type[BaseModel] | None
    path_types: Mapping[str, TypeAdapter[Any]]
    returns: TypeAdapter[Any] | None
    wants: Mapping[str, str]  # parameter name -> call | conn | uow | body | query | path

    @property
    def summary(self) -> str:
        return (inspect.getdoc(self.handler) or self.handler.__name__).split("\n", 1)[0].rstrip(".")

    @property
    def description(self) -> str:
        return inspect.getdoc(self.handler) or ""


class Routes:
    """The endpoints of one resource."""

    def __init__(self, tag: str, *, prefix: str = "/api/v1", role: str | None = "agent") -> None:
        self.tag = tag
        self.prefix = prefix
        self.role = role
        self.endpoints: list[Endpoint] = []

    def get(self, path: str, **options: Any) -> Callable[[Any], Any]:
        return self._route("GET", path, **options)

    def post(self, path: str, **options: Any) -> Callable[[Any], Any]:
        return self._route("POST", path, **options)

    def put(self, path: str, **options: Any) -> Callable[[Any], Any]:
        return self._route("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Callable[[Any], Any]:
        return self._route("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Callable[[Any], Any]:
        return self._route("DELETE", path, **options)

    def _route(
        self,
        method: str,
        path: str,
        *,
        role: str | type[Any] | None = object,
        status: int = 200,
        errors: tuple[int, ...] = (),
        max_body: int = MAX_JSON,
        consumes: str = "",
        produces: str = "application/json",
        repeatable: bool = False,
        secret: bool = False,
    ) -> Callable[[Any], Any]:
        needed = self.role if role is object else role

        def declare(handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            parts = _parts_of(handler)
            self.endpoints.append(
                Endpoint(
                    method=method,
                    path=self.prefix + path,
                    handler=handler,
                    role=needed,  # type: ignore[arg-type]
                    tag=self.tag,
                    status=status,
                    errors=errors,
                    max_body=max_body,
                    consumes=consumes,
                    produces=produces,
                    repeatable=repeatable,
                    secret=secret,
                    **parts,
                )
            )
            return handler

        return declare


def _parts_of(handler: Callable[..., Awaitable[Any]]) -> dict[str, Any]:
    # Without include_extras the constraints in Annotated vanish silently.
    hints = get_type_hints(handler, include_extras=True)
    returned = hints.pop("return", None)
    wants: dict[str, str] = {}
    path_types: dict[str, TypeAdapter[Any]] = {}
    models: dict[str, type[BaseModel]] = {}
    for name in inspect.signature(handler).parameters:
        hint = hints[name]
        if hint is Call:
            wants[name] = "call"
        elif hint is AsyncConnection:
            wants[name] = "conn"
        elif hint is UnitOfWork:
            wants[name] = "uow"
        elif name in ("body", "query"):
            if not (inspect.isclass(hint) and issubclass(hint, BaseModel)):
                raise TypeError(f"{handler.__name__}: {name} must be a model, not {hint!r}")
            wants[name] = name
            models[name] = hint
        else:
            wants[name] = "path"
            path_types[name] = TypeAdapter(hint)
    return {
        "wants": wants,
        "path_types": path_types,
        "body": models.get("body"),
        "query": models.get("query"),
        "returns": _returned(returned),
    }


def _returned(hint: Any) -> TypeAdapter[Any] | None:
    """`Annotated[Data, Model]` promises Model while the handler hands over plain data; None is no content."""
    if hint is None or hint is type(None) or hint is web.StreamResponse:
        return None
    if get_origin(hint) is Annotated:
        return TypeAdapter(get_args(hint)[1])
    return TypeAdapter(hint)
