"""Keyset pagination: an opaque cursor names the last row of a page by the columns the list is ordered by."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, or_
from sqlalchemy.sql.selectable import Select

from api.layer.bodies import check_value
from api.layer.fields import MAX_BIG
from crm_core.errors import Invalid

#: (column, descending); the last one must be unique
Order = Sequence[tuple[ColumnElement[Any], bool]]


def encode_cursor(values: Sequence[int | str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(list(values)).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: Sequence[type]) -> list[Any]:
    """The values of a cursor. Raises Invalid if it is not one of ours for a list of this order."""
    try:
        values = json.loads(base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)))
        check_value(values)
        fits = isinstance(values, list) and [type(value) for value in values] == list(kinds)
        if not fits or any(isinstance(value, int) and abs(value) > MAX_BIG for value in values):
            raise ValueError
    except (ValueError, RecursionError, Invalid) as error:
        raise Invalid(
            "the cursor is not one of this list",
            code="bad_cursor",
            params={"errors": [{"loc": ["query", "cursor"], "msg": "not a cursor of this list"}]},
        ) from error
    return list(values)


def after(order: Order, values: Sequence[Any]) -> ColumnElement[bool]:
    """Rows that come after the one with these values. Spelled out, as row comparison cannot mix directions."""
    choices: list[ColumnElement[bool]] = []
    for index, (column, descending) in enumerate(order):
        equal = [earlier == value for (earlier, _), value in zip(order[:index], values[:index], strict=True)]
        choices.append(and_(*equal, column < values[index] if descending else column > values[index]))
    return or_(*choices)


def page_of(
    statement: Select[Any], order: Order, *, cursor: str | None, limit: int, kinds: Sequence[type] = (int,)
) -> Select[Any]:
    """The statement of one page: one row more than `limit`, to know whether there is another page."""
    if cursor is not None:
        statement = statement.where(after(order, decode_cursor(cursor, kinds)))
    return statement.order_by(*(c.desc() if down else c.asc() for c, down in order)).limit(limit + 1)


def page_in_memory(
    items: Sequence[dict[str, Any]],
    *,
    cursor: str | None,
    limit: int | None,
    key: Callable[[Mapping[Any, Any]], tuple[Any, ...]],
) -> dict[str, Any]:
    """A page of a list that is loaded whole anyway, in the order of `key`, whose last part must be unique.

    Ordered here, as databases order text by their own rules. Raises Invalid for a cursor of another list.
    """
    ordered = sorted(items, key=key)
    if cursor is not None:
        # Without any item the kinds are unknown, but so is what a cursor could skip.
        kinds = [type(part) for part in key(ordered[0])] if ordered else []
        behind = tuple(decode_cursor(cursor, kinds)) if ordered else ()
        ordered = [item for item in ordered if key(item) > behind]
    rows, following = cut(ordered, limit if limit is not None else len(ordered), key)
    return {"items": rows, "next": following}


def cut(
    rows: Sequence[Mapping[Any, Any]], limit: int, key: Callable[[Mapping[Any, Any]], Sequence[int | str]]
) -> tuple[list[Any], str | None]:
    """The rows of the page and the cursor of the next one."""
    if len(rows) <= limit:
        return list(rows), None
    return list(rows[:limit]), encode_cursor(key(rows[limit - 1]))
