"""From a declared endpoint to an aiohttp handler: who calls, what was sent, one transaction, the answer."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from multidict import MultiMapping
from pydantic import BaseModel, TypeAdapter, ValidationError

from api.keys import CHECK_ANSWERS, SERVICES
from api.layer.bodies import check_text, read_body, read_json
from api.layer.idempotency import Attempt, begin
from api.layer.problems import answer_to, invalid_of
from api.layer.routes import Answer, Call, Endpoint
from crm_core.db.uow import UnitOfWork
from crm_core.errors import Invalid

#: fills `call.caller` or raises Unauthorized / Forbidden
Guard = Callable[[Call, Endpoint], Awaitable[None]]

_dump = partial(json.dumps, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def handler_of(endpoint: Endpoint, guard: Guard) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of an endpoint."""

    async def handle(request: web.Request) -> web.StreamResponse:
        call = Call(request=request, services=request.app[SERVICES])
        try:
            await guard(call, endpoint)
            arguments, raw = await _arguments(call, endpoint)
            return await _run(call, endpoint, arguments, raw)
        except (web.HTTPException, Exception) as error:
            return answer_to(error, where=f"{endpoint.method} {endpoint.path}")

    return handle


async def _arguments(call: Call, endpoint: Endpoint) -> tuple[dict[str, Any], bytes]:
    request = call.request
    found: dict[str, Any] = {}
    raw = b""
    for name, kind in endpoint.wants.items():
        if kind == "path":
            found[name] = _path_value(endpoint.path_types[name], name, request.match_info[name])
        elif kind == "query" and endpoint.query is not None:
            found[name] = query_values(endpoint.query, request.query)
        elif kind == "body" and endpoint.body is not None:
            value = await read_json(request, limit=endpoint.max_body)
            raw = repr(value).encode()
            found[name] = validated(endpoint.body, value, "body")
    if endpoint.query is None and request.query:
        extra = [
            {"loc": ["query", name], "msg": "there is no such parameter"}
            for name in sorted(set(request.query))
        ]
        raise Invalid("the query is not valid", params={"errors": extra})
    if endpoint.body is None and not endpoint.consumes and request.body_exists:
        raw = await read_body(request, limit=endpoint.max_body)
    return found, raw


def _path_value(adapter: TypeAdapter[Any], name: str, text: str) -> Any:
    check_text(text)
    if text.strip().lstrip("+-").isdigit() and (not text.isdigit() or (text[0] == "0" and text != "0")):
        # One thing has one address: " 1", "+1" and "01" are not other names of 1.
        wrong = [{"loc": ["path", name], "msg": "not a plain number"}]
        raise Invalid("the path is not valid", params={"errors": wrong})
    try:
        return adapter.validate_strings(text)
    except ValidationError as error:
        raise invalid_of(error, f"path.{name}") from error


def validated(model: type[BaseModel], value: Any, where: str) -> Any:
    """A model from decoded JSON. Raises Invalid with the list of complaints."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_of(error, where) from error


def query_values(model: type[BaseModel], query: MultiMapping[str]) -> Any:
    """A query model. A name given several times is a list, where the field is one, else an error."""
    values: dict[str, Any] = {}
    for name in dict.fromkeys(query.keys()):
        every = query.getall(name)
        for text in (name, *every):
            check_text(text)
        values[name] = every if len(every) > 1 else every[0]
    return validated(model, values, "query")


async def _run(call: Call, endpoint: Endpoint, arguments: dict[str, Any], raw: bytes) -> web.StreamResponse:
    attempt: Attempt | None = None
    key = call.request.headers.get("Idempotency-Key")
    storable = endpoint.method == "POST" and not endpoint.consumes and not endpoint.secret
    if key is not None and storable and call.caller is not None:
        attempt, stored = await begin(call, key, raw)
        if stored is not None:
            return stored
    try:
        return await _execute(call, endpoint, arguments, attempt)
    except BaseException:
        # Whatever the handler did is rolled back, so the key is free again for the next try.
        if attempt is not None:
            await attempt.forget()
        raise


async def _execute(
    call: Call, endpoint: Endpoint, arguments: dict[str, Any], attempt: Attempt | None
) -> web.StreamResponse:
    kinds = {kind: name for name, kind in endpoint.wants.items() if kind != "path"}
    if "call" in kinds:
        arguments[kinds["call"]] = call
    if "uow" in kinds:
        async with call.db.transaction() as uow:
            arguments[kinds["uow"]] = uow
            response = _respond(call, endpoint, await endpoint.handler(**arguments))
            # In the same transaction as the effect: either both exist or neither.
            await _remember(attempt, response, uow)
        return response
    if "conn" in kinds:
        async with call.db.reading() as conn:
            arguments[kinds["conn"]] = conn
            result = await endpoint.handler(**arguments)
    else:
        result = await endpoint.handler(**arguments)
    response = _respond(call, endpoint, result)
    if attempt is not None:
        async with call.db.transaction() as uow:
            await _remember(attempt, response, uow)
    return response


async def _remember(attempt: Attempt | None, response: web.StreamResponse, uow: UnitOfWork) -> None:
    if attempt is not None and isinstance(response, web.Response):
        await attempt.finish(uow, response.status, response.text)


def _respond(call: Call, endpoint: Endpoint, result: Any) -> web.StreamResponse:
    if isinstance(result, web.StreamResponse):
        return result
    answer = result if isinstance(result, Answer) else Answer(result, endpoint.status)
    if answer.data is None:
        response = web.Response(status=204, headers=answer.headers)
    else:
        if endpoint.returns is not None and call.request.app[CHECK_ANSWERS]:
            endpoint.returns.validate_json(_dump(answer.data), strict=True)
        response = web.Response(
            status=answer.status,
            body=_dump(answer.data).encode(),
            content_type="application/json",
            headers={"Cache-Control": "no-store", **(answer.headers or {})},
        )
    if answer.prepare is not None:
        answer.prepare(response)
    return response
