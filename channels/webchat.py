"""Web chat as a channel: what a stored frame of the chat protocol means, and what sending into a chat is.

Owns the frame's fields (channels.md §4.2). The sockets, sessions and the stream that visitors read are the
API's; the session has proven who the visitor is before a frame is stored, so a frame's `visitor_id` is true
and everything in its pre-chat fields is only a claim.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from channels import wire
from channels.contract import Channel, ChannelContext, ChannelSpec, InboxConfig, Malformed, RawItem
from crm_core.envelope import (
    Envelope,
    IdentityClaim,
    IdentityKind,
    InboundAttachment,
    Kind,
    Outbound,
    Sender,
    SendResult,
)
from crm_core.phone import normalize

MAX_TEXT = 8_000
MAX_FILES = 10
MAX_FIELDS = 50
_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")
_EMAIL = re.compile(r"[^\s@<>\"',;]{1,64}@[^\s@<>\"',;]+\.[^\s@<>\"',;]+")
_MIME = re.compile(r"[a-z0-9.+\-]{1,64}/[a-z0-9.+\-]{1,100}")


class WebChatChannel(Channel):
    spec: ClassVar[ChannelSpec] = ChannelSpec(
        key="webchat",
        title="Web chat",
        config_keys={
            "origins?": "sites that may embed the chat, by commas or as a list; any if empty",
            "jwt_secret?": "key with which the site signs who its user is (HS256)",
            "color?": "the widget's colour, #rrggbb",
            "greeting?": "the first line a visitor sees",
        },
        secret_keys=frozenset({"jwt_secret"}),
        max_text=MAX_TEXT,
        max_request_bytes=64 * 1024,
        buttons=True,
        idempotent_send=True,
        offer_channel="chat",
    )

    @override
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        frame = wire.json_object(item.body)
        visitor = _id(frame.get("visitor_id"))
        if visitor is None:
            raise Malformed("the frame has no visitor_id")
        fields = frame.get("fields")
        claims, kept = _claims(fields if isinstance(fields, dict) else {}, inbox)
        proven = [IdentityClaim(IdentityKind.VISITOR, visitor, verified=True, account=inbox.key)]
        subject = wire.text(frame.get("external_id"), 200)
        if subject is not None:
            # Set by the API from a checked JWT, never by the visitor's own frame.
            proven.append(
                IdentityClaim(
                    IdentityKind.EXTERNAL, subject, verified=True, evidence="jwt", account=inbox.key
                )
            )
        text = wire.paragraph(frame.get("text"), MAX_TEXT)
        files = _files(frame.get("attachments"))
        action = frame.get("action")
        data: dict[str, Any] = {}
        kind = Kind.MESSAGE
        if isinstance(action, dict):
            kind = Kind.ACTION
            data["value"] = wire.text(action.get("value"), 200) or ""
            text = wire.paragraph(action.get("label"), MAX_TEXT) or text
        elif not text and not files:
            kind = Kind.IDENTITY if claims or kept else Kind.UNSUPPORTED
            if kind is Kind.UNSUPPORTED:
                data["what"] = "an empty chat frame"
        return [
            Envelope(
                kind=kind,
                dedupe_key=item.dedupe_key,
                conversation_key=visitor,
                sender=Sender(
                    identities=(*proven, *claims),
                    display_name=wire.text(fields.get("name"), 200) if isinstance(fields, dict) else None,
                    locale=wire.text(frame.get("locale"), 20),
                ),
                occurred_at=item.received_at,
                provider_message_id=_id(frame.get("client_id")),
                reply_to=_id(frame.get("reply_to")),
                text=text,
                attachments=files,
                fields=kept,
                data=data,
                auth={"signature": "ok"},
            )
        ]

    @override
    async def send(self, outbound: Outbound, inbox: InboxConfig, ctx: ChannelContext) -> SendResult:
        """Nothing to do: visitors' streams read the message from the database, where it already is."""
        return SendResult(external_ids=(outbound.ref,), state="sent")


def to_item(
    frame: Mapping[str, Any], *, visitor_id: str, received_at: int, external_id: str | None = None
) -> RawItem:
    """A visitor's frame as the row to store. Raises Malformed, naming the field.

    `visitor_id` and `external_id` (the subject of a checked JWT) are the session's; the frame's own are
    ignored. The same `client_id` of the same visitor gives the same dedupe key: a retry is no second message.
    """
    client_id = _id(frame.get("client_id"))
    if client_id is None:
        raise Malformed("client_id must be 1 to 64 letters, digits or . _ : -")
    text = frame.get("text")
    if text is not None and not isinstance(text, str):
        raise Malformed("text must be a string")
    if text is not None and len(text) > MAX_TEXT:
        raise Malformed(f"text is longer than {MAX_TEXT} characters")
    files = frame.get("attachments") or []
    if not isinstance(files, list) or not all(isinstance(each, dict) for each in files):
        raise Malformed("attachments must be a list of objects")
    if len(files) > MAX_FILES:
        raise Malformed(f"more than {MAX_FILES} attachments")
    for name in ("fields", "action"):
        if frame.get(name) is not None and not isinstance(frame[name], dict):
            raise Malformed(f"{name} must be an object")
    if not (text and text.strip()) and not files and not frame.get("action") and not frame.get("fields"):
        raise Malformed("one of text, attachments, action, fields must be filled")
    return RawItem(
        dedupe_key=f"chat:{visitor_id}:{client_id}",
        lane=visitor_id,
        body=wire.dump({**frame, "visitor_id": visitor_id, "external_id": external_id}),
        received_at=received_at,
    )


def _id(value: Any) -> str | None:
    written = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return written if _ID.fullmatch(written) else None


def _files(value: Any) -> tuple[InboundAttachment, ...]:
    files = []
    for each in value[:MAX_FILES] if isinstance(value, list) else []:
        if not isinstance(each, dict):
            continue
        mime = (wire.text(each.get("mime"), 200) or "").lower()
        ref = wire.text(each.get("ref"), 500)
        files.append(
            InboundAttachment(
                name=wire.text(each.get("name"), 255) or "file",
                mime=mime if _MIME.fullmatch(mime) else "application/octet-stream",
                size=wire.integer(each.get("size"), high=2**53),
                provider_ref=ref,
                refused=None if ref is not None else "never_uploaded",
            )
        )
    return tuple(files)


def _claims(fields: Mapping[str, Any], inbox: InboxConfig) -> tuple[list[IdentityClaim], dict[str, Any]]:
    """Pre-chat answers: who the visitor says he is, and the rest as it is."""
    claims = []
    kept: dict[str, Any] = {}
    for written, value in list(fields.items())[:MAX_FIELDS]:
        name = wire.text(written, 100)
        if name is None or name == "name":
            continue
        clean = value if isinstance(value, bool) else wire.paragraph(value, 2_000)
        if clean == "":
            continue
        found = normalize(str(clean), inbox.region) if name == "phone" else None
        if found is not None:
            claims.append(IdentityClaim(IdentityKind.PHONE, found.e164, verified=False, evidence="pre_chat"))
        elif name == "email" and isinstance(clean, str) and _EMAIL.fullmatch(clean):
            claims.append(
                IdentityClaim(IdentityKind.EMAIL, clean.lower(), verified=False, evidence="pre_chat")
            )
        else:
            kept[name] = clean
    # In a fixed order, whatever order the stored JSON has: the phone is the better address.
    return sorted(claims, key=lambda claim: claim.kind is not IdentityKind.PHONE), kept
