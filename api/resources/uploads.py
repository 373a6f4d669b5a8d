"""Files: uploaded by agents, downloaded by those who may read the message."""

from typing import Annotated

from aiohttp import web
from sqlalchemy import select

from api.files import receive_upload, send_blob
from api.layer.fields import Out, Query, RowId
from api.layer.routes import Call, Data, Routes
from crm_core.access import access_inquiry
from crm_core.errors import NotFound
from crm_core.schema import attachment, message

routes = Routes("files")


class UploadOut(Out):
    id: str
    name: str
    mime: str
    size: int


class DownloadQuery(Query):
    inline: bool = False


@routes.post("/uploads", status=201, consumes="multipart/form-data")
async def upload(call: Call) -> Annotated[Data, UploadOut]:
    """Upload a file (part `file`), to be named in a message's attachments."""
    return await receive_upload(call, call.actor.label)


@routes.get("/attachments/{id}", produces="application/octet-stream")
async def download(call: Call, id: RowId, query: DownloadQuery) -> web.StreamResponse:  # noqa: A002
    """A stored file. Pictures may be shown in place with `inline`."""
    async with call.db.reading() as conn:
        row = (
            (
                await conn.execute(
                    select(attachment, message.c.inquiry_id)
                    .join(message, message.c.id == attachment.c.message_id)
                    .where(attachment.c.id == id)
                )
            )
            .mappings()
            .first()
        )
        if row is None or row["state"] != "stored":
            raise NotFound(f"no file {id}", params={"attachment_id": id})
        if row["inquiry_id"] is not None:
            await access_inquiry(conn, call.actor, row["inquiry_id"])
        else:
            call.actor.need("supervisor")
    return await send_blob(call, row, inline=query.inline)
