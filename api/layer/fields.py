"""The types that request and answer models are made of: strict, bounded, and safe for both databases."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from crm_core.clock import from_iso

#: the largest integer both databases hold
MAX_BIG = 2**63 - 1
#: instants beyond the year 9999 have no ISO form
MAX_INSTANT = 253_402_300_799_999

ItemT = TypeVar("ItemT")


class In(BaseModel):
    """A request body. Strict, because lax pydantic takes `0` for a date and `"yes"` for a flag."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    def changes(self) -> dict[str, Any]:
        """Only what the caller sent: in a PATCH a missing key and null are two things."""
        return {name: getattr(self, name) for name in self.model_fields_set}


class Query(BaseModel):
    """A query string. Lax in types (everything is text there), strict in names: a mistyped filter must not be
    taken for no filter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Out(BaseModel):
    """The shape of an answer, for the document and the tests. Answers are not validated in production."""

    model_config = ConfigDict(extra="forbid")


class OpenOut(BaseModel):
    """An answer whose further keys are not promised."""

    model_config = ConfigDict(extra="allow")


class Page(Out, Generic[ItemT]):
    """One page of a list; `next` is the opaque cursor of the following one, null on the last."""

    items: list[ItemT]
    next: str | None


class PageQuery(Query):
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    cursor: Annotated[str, Field(max_length=600)] | None = None


class ShortQuery(Query):
    """Of a list that is short by nature (teams, inboxes): whole unless a page size is asked for."""

    limit: Annotated[int, Field(ge=1, le=200)] | None = None
    cursor: Annotated[str, Field(max_length=600)] | None = None


def _instant(value: object) -> int:
    if not isinstance(value, str):
        # pydantic turns a ValueError into a complaint, a TypeError would escape it.
        raise ValueError("expected an ISO 8601 instant with an offset, e.g. 2026-11-22T00:01:02.345Z")  # noqa: TRY004
    try:
        moment = from_iso(value.replace(" ", "+") if " " in value[-6:] else value)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            "expected an ISO 8601 instant with an offset, e.g. 2026-11-22T00:01:02.345Z"
        ) from error
    if not 0 <= moment <= MAX_INSTANT:
        raise ValueError("the instant must lie between 1970 and 9999")
    return moment


def _many(value: object) -> object:
    """`?status=new,open&status=hold` and any mixture of the two forms."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        return [
            part for item in value for part in (item.split(",") if isinstance(item, str) else [item]) if part
        ]
    return value


RowId = Annotated[int, Field(ge=1, le=MAX_BIG)]
Big = Annotated[int, Field(ge=-MAX_BIG, le=MAX_BIG)]
Seq = Annotated[int, Field(ge=0, le=MAX_BIG)]
#: in: ISO 8601 text, milliseconds inside
Instant = Annotated[int, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
#: out: the text as it is
InstantOut = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Comma = BeforeValidator(_many)
