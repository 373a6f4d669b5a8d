"""Uploads and downloads: bounded while they stream, named by content, and never run by a browser."""

import hashlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import PurePath
from typing import IO, Any
from urllib.parse import quote

import puremagic
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from api.layer.bodies import UnsupportedMediaType, check_text
from api.layer.routes import Call, Data
from crm_core.errors import BadRequest, Invalid, TooLarge
from crm_core.risky_files import runs_on_click
from crm_core.schema import upload

_CHUNK = 64 * 1024
_SPOOL = 1024 * 1024
#: types a browser may show in place; everything else is only offered for saving
_HARMLESS = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "audio/mpeg", "audio/ogg", "video/mp4"}
)


async def receive_upload(call: Call, owner: str, *, of_stranger: bool = False) -> Data:
    """Store the part `file` of a multipart body; a stranger's may be nothing that runs when clicked on.

    Raises TooLarge, Invalid, UnsupportedMediaType, BadRequest.
    """
    request, settings = call.request, call.services.settings
    if request.content_type != "multipart/form-data":
        raise UnsupportedMediaType("expected multipart/form-data with a part named file")
    if request.content_length is not None and request.content_length > settings.max_upload_bytes + _CHUNK:
        raise TooLarge(
            f"a file may have {settings.max_upload_bytes} bytes", params={"limit": settings.max_upload_bytes}
        )
    try:
        reader = await request.multipart()
        while (part := await reader.next()) is not None:
            if isinstance(part, BodyPartReader) and part.name == "file":
                if of_stranger and runs_on_click(clean_name(part.filename)):
                    raise Invalid("files that run when clicked on are not taken", code="refused_file")
                return await _store(call, part, owner)
    except (ValueError, LookupError, AssertionError, HttpProcessingError, RuntimeError) as error:
        raise BadRequest("the multipart body cannot be read") from error
    raise Invalid(
        "there is no part named file", params={"errors": [{"loc": ["body", "file"], "msg": "missing"}]}
    )


async def _store(call: Call, part: BodyPartReader, owner: str) -> Data:
    limit = call.services.settings.max_upload_bytes
    digest, size, head = hashlib.sha256(), 0, b""
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as spool:
        while chunk := await part.read_chunk(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"a file may have {limit} bytes", params={"limit": limit})
            if len(head) < 4096:
                head += chunk
            digest.update(chunk)
            spool.write(chunk)
        if size == 0:
            raise Invalid("the file is empty", code="empty_file")
        name = clean_name(part.filename)
        sha = digest.hexdigest()
        key = f"blobs/{sha[:2]}/{sha}"
        spool.seek(0)
        await call.services.files.put(key, _chunks(spool))
    mime = sniff(head, name)
    upload_id = secrets.token_urlsafe(24)
    async with call.db.transaction() as uow:
        await uow.execute(
            upload.insert().values(
                id=upload_id,
                owner=owner,
                name=name,
                mime=mime,
                size=size,
                blob_key=key,
                sha256=sha,
                created_at=uow.now,
            )
        )
    return {"id": upload_id, "name": name, "mime": mime, "size": size}


async def _chunks(spool: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := spool.read(_CHUNK):
        yield chunk


def clean_name(given: str | None) -> str:
    """A file name without directories, control characters and length."""
    plain = PurePath((given or "").replace("\\", "/")).name
    safe = "".join(ch for ch in plain if ch.isprintable()).encode("utf-8", "replace").decode().strip(". ")
    check_text(safe)
    return safe[-200:] or "file"


def sniff(head: bytes, name: str) -> str:
    """The type by content; what the sender says is only a wish."""
    try:
        found = str(puremagic.from_string(head[:4096], mime=True, filename=name[-80:]))
    except (puremagic.PureError, ValueError, IndexError):
        found = ""
    return found[:120] or "application/octet-stream"


async def send_blob(call: Call, row: Mapping[Any, Any], *, inline: bool = False) -> web.StreamResponse:
    """Stream a stored attachment. Scripts in it cannot run, whatever it is. Raises NotFound."""
    stream = call.services.files.get(row["blob_key"])
    # The first piece is fetched before the headers leave, so that a missing file is still a clean 404.
    first = await anext(stream, b"")
    harmless = row["mime"] in _HARMLESS
    place = "inline" if inline and harmless else "attachment"
    ascii_name = "".join(ch if (ch.isascii() and ch.isalnum()) or ch in "._- " else "_" for ch in row["name"])
    response = web.StreamResponse(
        headers={
            "Content-Type": row["mime"] if harmless else "application/octet-stream",
            "Content-Disposition": f"{place}; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(row['name'])}",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "Cache-Control": "private, max-age=86400",
            "Cross-Origin-Resource-Policy": "same-site",
        }
    )
    if row["size"] is not None:
        response.content_length = row["size"]
    await response.prepare(call.request)
    await response.write(first)
    async for chunk in stream:
        await response.write(chunk)
    await response.write_eof()
    return response
