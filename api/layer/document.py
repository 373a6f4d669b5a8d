"""The OpenAPI 3.1 document, made from the declared endpoints and their models.

https://spec.openapis.org/oas/v3.1.0
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from api.layer.fields import OpenOut
from api.layer.routes import Endpoint

_REF = "#/components/schemas/{model}"

Data = dict[str, Any]


class FieldErrorOut(OpenOut):
    loc: list[str | int]
    msg: str


class ProblemOut(OpenOut):
    """RFC 9457. `code` is stable and for programs, `detail` is for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    params: dict[str, Any] = Field(default_factory=dict)
    errors: list[FieldErrorOut] = Field(default_factory=list)
    log_id: str = ""


def build_document(endpoints: Iterable[Endpoint], *, version: str) -> Data:
    """The whole document as plain data."""
    listed = list(endpoints)
    schemas = _Schemas(listed)
    paths: dict[str, Data] = {}
    for endpoint in listed:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Switchboard",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "The API of the contact center, for agents, supervisors, admins and programs. Errors are "
            "problem documents; lists are pages with an opaque cursor; a POST repeated with the same "
            "Idempotency-Key has one effect.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.definitions,
            "securitySchemes": {
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "switchboard_session",
                    "description": "From POST /api/v1/auth/login. Unsafe methods also need the header "
                    "X-Requested-With: switchboard.",
                },
                "token": {"type": "http", "scheme": "bearer", "description": "An API token."},
            },
        },
    }


class _Schemas:
    """All models rendered together, so that each has one name."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        wanted: list[tuple[Any, Any, Any]] = [
            ("problem", "serialization", TypeAdapter(ProblemOut).core_schema)
        ]
        for number, endpoint in enumerate(endpoints):
            if endpoint.body is not None:
                wanted.append(((number, "body"), "validation", TypeAdapter(endpoint.body).core_schema))
            if endpoint.query is not None:
                wanted.append(((number, "query"), "validation", TypeAdapter(endpoint.query).core_schema))
            if endpoint.returns is not None:
                wanted.append(((number, "returns"), "serialization", endpoint.returns.core_schema))
            wanted.extend(
                ((number, "path", name), "validation", adapter.core_schema)
                for name, adapter in endpoint.path_types.items()
            )
        made, definitions = GenerateJsonSchema(ref_template=_REF).generate_definitions(wanted)
        self._made: dict[Any, Data] = {key: schema for (key, _mode), schema in made.items()}
        self._numbers = {id(endpoint): number for number, endpoint in enumerate(endpoints)}
        self.definitions: Data = {str(name): schema for name, schema in definitions.items()}

    def of(self, endpoint: Endpoint, *part: str) -> Data:
        return self._made[(self._numbers[id(endpoint)], *part)]

    @property
    def problem(self) -> Data:
        return self._made["problem"]

    def resolved(self, schema: Data) -> Data:
        while "$ref" in schema:
            schema = self.definitions[schema["$ref"].rsplit("/", 1)[1]]
        return schema


def _operation(endpoint: Endpoint, schemas: _Schemas) -> Data:
    operation: Data = {
        "operationId": f"{endpoint.tag}_{endpoint.handler.__name__}".replace(" ", "_"),
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "description": endpoint.description
        + (f"\n\nNeeds the role: {endpoint.role}." if endpoint.role else ""),
        "parameters": _parameters(endpoint, schemas),
        "responses": _responses(endpoint, schemas),
        "security": [{"session": []}, {"token": []}] if endpoint.role else [],
    }
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas.of(endpoint, "body")}},
        }
    elif endpoint.consumes:
        operation["requestBody"] = {
            "required": True,
            "content": {endpoint.consumes: {"schema": _raw(endpoint)}},
        }
    return operation


def _raw(endpoint: Endpoint) -> Data:
    if endpoint.consumes == "multipart/form-data":
        return {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "string", "format": "binary"}},
        }
    return {"type": "string"}


def _parameters(endpoint: Endpoint, schemas: _Schemas) -> list[Data]:
    found: list[Data] = [
        {"name": name, "in": "path", "required": True, "schema": schemas.of(endpoint, "path", name)}
        for name in endpoint.path_types
    ]
    if endpoint.query is not None:
        model = schemas.resolved(schemas.of(endpoint, "query"))
        for name, schema in model.get("properties", {}).items():
            parameter: Data = {
                "name": name,
                "in": "query",
                "required": name in model.get("required", ()),
                "schema": _without_null(schema),
            }
            if "description" in schema:
                parameter["description"] = schema["description"]
            found.append(parameter)
    if endpoint.method == "POST" and endpoint.role and not endpoint.consumes and not endpoint.secret:
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
                "description": "The same key again gives the stored answer.",
            }
        )
    return found


def _without_null(schema: Data) -> Data:
    """A query parameter is there or not, it is never null."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    if schema.get("default") is not None:
        rest["default"] = schema["default"]
    if not choices:
        return rest
    return {**choices[0], **rest} if len(choices) == 1 else {"anyOf": choices, **rest}


def _responses(endpoint: Endpoint, schemas: _Schemas) -> Data:
    good: Data = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.returns is not None:
        good["content"] = {endpoint.produces: {"schema": schemas.of(endpoint, "returns")}}
    elif endpoint.produces != "application/json":
        good["content"] = {endpoint.produces: {"schema": {"type": "string"}}}
    status = (
        endpoint.status if endpoint.returns is not None or endpoint.produces != "application/json" else 204
    )
    responses: Data = {str(status): good}
    wrong = {400, 404, 422, 500, 503, *endpoint.errors}
    if endpoint.role:
        wrong |= {401, 403}
    if endpoint.body is not None or endpoint.consumes:
        wrong |= {413, 415}
    if endpoint.method != "GET" and endpoint.role:
        wrong.add(409)
    for code in sorted(wrong):
        answer: Data = {
            "description": HTTPStatus(code).phrase,
            "content": {"application/problem+json": {"schema": schemas.problem}},
        }
        if code in (429, 503):
            answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}
        responses[str(code)] = answer
    if endpoint.repeatable:
        # A repeated client_id is answered with what is there already.
        responses["200"] = {**good, "description": "It was there already"}
    return responses
