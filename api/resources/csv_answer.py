"""Answers for spreadsheets, written while they are read: a period of any size costs one page of memory."""

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from zoneinfo import ZoneInfo

from aiohttp import web

from api.layer.routes import Call
from crm_core import sheet
from crm_core.errors import Invalid

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
#: text is handed to the socket in pieces of about this many characters
_PIECE = 64 * 1024


def zone_of(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises Invalid (bad_zone)."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise Invalid(
            "unknown time zone; write an IANA name such as Europe/Kyiv",
            code="bad_zone",
            params={"errors": [{"loc": ["query", "zone"], "msg": "unknown time zone"}]},
        ) from None


async def send_rows(
    call: Call,
    name: str,
    header: Sequence[sheet.Cell],
    rows: AsyncIterator[Iterable[Sequence[sheet.Cell]]],
) -> web.StreamResponse:
    """A CSV file of a header and groups of rows."""
    response = web.StreamResponse(
        headers={
            "Content-Type": f"{sheet.CONTENT_TYPE}; charset=utf-8; header=present",
            "Content-Disposition": f'attachment; filename="{_UNSAFE.sub("-", name)}.csv"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
    )
    # The first rows are read before the answer begins: what is wrong with the question is still a proper error.
    kept = sheet.lines([header])
    begun = False
    async for group in rows:
        kept += sheet.lines(group)
        if len(kept) >= _PIECE:
            if not begun:
                await response.prepare(call.request)
                begun = True
            await response.write(kept.encode())
            kept = ""
    if not begun:
        await response.prepare(call.request)
    await response.write(kept.encode())
    await response.write_eof()
    return response


async def groups_of(rows: Iterable[Sequence[sheet.Cell]]) -> AsyncIterator[Iterable[Sequence[sheet.Cell]]]:
    """Rows that are all there already."""
    yield rows
