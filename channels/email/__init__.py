"""The email channel: mail by LMTP, SMTP, IMAP or signed post in; SMTP out.

`EmailChannel` is the adapter behind the contract. `MailListener` is the server for all email inboxes of an
installation, started by the composition root. Tokens are made by the core with `make_reply_token`.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, ClassVar

from typing_extensions import override

from channels.contract import (
    Channel,
    ChannelContext,
    ChannelError,
    ChannelSpec,
    HttpAnswer,
    InboundSink,
    InboxConfig,
    Malformed,
    RawItem,
    RawRequest,
    SignatureRefused,
)
from channels.email.account import imap_server
from channels.email.compose import compose, outbound_message_id
from channels.email.headers import normal_address
from channels.email.imap import ImapPoller
from channels.email.imap_connection import FolderMissing, ImapConnection
from channels.email.items import make_item
from channels.email.listener import ListenAddress, MailListener
from channels.email.parse import parse_mail
from channels.email.send import deliver, open_smtp
from channels.email.tokens import (
    make_reply_token,
    make_subject_token,
    parse_reply_token,
    parse_subject_token,
)
from crm_core.envelope import Envelope, Outbound, SendResult

MAX_MAIL_BYTES = 25 * 1024 * 1024


class EmailChannel(Channel):
    spec: ClassVar[ChannelSpec] = ChannelSpec(
        key="email",
        title="Email",
        config_keys={
            "address": "the inbox's address, which customers write to",
            "from_name?": "name customers see; the inbox's name if empty",
            "aliases?": "further addresses of the inbox, a list or separated by commas",
            "authserv_id?": "your mail server's name in Authentication-Results; none is believed without it",
            "smtp_host?": "server that takes our mail",
            "smtp_port?": "25, 587 or 465 by smtp_tls if empty",
            "smtp_tls?": "none, starttls or tls; starttls if there is a user, else none",
            "smtp_user?": "login name, if the server wants one",
            "smtp_password?": "password or app password",
            "imap_host?": "server to read the mailbox from, if mail does not come by LMTP",
            "imap_port?": "993 or 143 by imap_tls if empty",
            "imap_tls?": "tls, starttls or none; tls if empty",
            "imap_user?": "login name",
            "imap_password?": "password or app password",
            "imap_folder?": "folder to read; INBOX if empty",
            "imap_days?": "how many days back the first reading goes; 7 if empty, 0 for new mail only",
            "tls_ca?": "PEM text of a private certificate authority, for both servers",
        },
        secret_keys=frozenset({"smtp_password", "imap_password"}),
        max_text=1_000_000,
        max_request_bytes=MAX_MAIL_BYTES,
        offer_channel="async",
        rate_per_key={"account": 5.0},
    )

    @override
    def check(self, config: Mapping[str, Any]) -> dict[str, str]:
        wrong = {}
        if not normal_address(str(config.get("address") or "")):
            wrong["address"] = "must be an email address"
        for side in ("smtp", "imap"):
            port, tls = config.get(f"{side}_port"), config.get(f"{side}_tls")
            if port not in (None, "") and not (str(port).isdecimal() and 0 < int(str(port)) < 65536):
                wrong[f"{side}_port"] = "must be a port, 1 to 65535"
            if tls not in (None, "", "none", "starttls", "tls"):
                wrong[f"{side}_tls"] = "must be none, starttls or tls"
        return wrong

    @override
    def verify(self, request: RawRequest, inbox: InboxConfig) -> HttpAnswer | None:
        """`X-Signature` = base64url without padding of HMAC-SHA256(secret, raw body)."""
        given = request.headers.get("x-signature", "").strip().rstrip("=")
        if not given:
            raise SignatureRefused("no X-Signature header")
        digest = hmac.new(inbox.secret.encode(), request.body, hashlib.sha256).digest()
        expected = base64.urlsafe_b64encode(digest).rstrip(b"=")
        if not hmac.compare_digest(expected, given.encode("utf-8", "replace")):
            raise SignatureRefused("X-Signature does not match the body")
        return None

    @override
    def split(self, request: RawRequest, inbox: InboxConfig) -> list[RawItem]:
        """One raw mail a request. `X-Envelope-From` and `X-Envelope-To` carry the envelope, if the caller
        has one; an empty `X-Envelope-From` is the null sender.
        """
        kind = (
            (request.content_type or request.headers.get("content-type", ""))
            .partition(";")[0]
            .strip()
            .lower()
        )
        if kind not in ("message/rfc822", "message/global"):
            raise Malformed("this hook takes one raw mail as message/rfc822")
        if not request.body.strip():
            raise Malformed("the mail is empty")
        if len(request.body) > MAX_MAIL_BYTES:
            raise Malformed(f"the mail is larger than {MAX_MAIL_BYTES} bytes")
        sender = request.headers.get("x-envelope-from")
        recipient = request.headers.get("x-envelope-to")
        return [
            make_item(
                request.body,
                received_at=request.received_at,
                envelope_from=None
                if sender is None
                else normal_address(sender) or sender.strip().strip("<>"),
                envelope_to=None if recipient is None else normal_address(recipient),
            )
        ]

    @override
    def parse(self, item: RawItem, inbox: InboxConfig) -> list[Envelope]:
        return parse_mail(item, inbox)

    @override
    async def run(
        self, inbox: InboxConfig, sink: InboundSink, ctx: ChannelContext, stop: asyncio.Event
    ) -> None:
        await ImapPoller(inbox, sink, ctx, stop).run()

    @override
    async def send(self, outbound: Outbound, inbox: InboxConfig, ctx: ChannelContext) -> SendResult:
        """The Message-ID in the result is the one answers will refer to."""
        mail = compose(outbound, inbox, now_ms=ctx.clock.now_ms())
        await deliver(mail, inbox)
        return SendResult(external_ids=(mail.message_id,))

    @override
    async def health(self, inbox: InboxConfig, ctx: ChannelContext) -> dict[str, Any]:
        """Tries both servers: `smtp` and `imap` are "ok", "not configured" or what is wrong."""
        smtp, imap = await asyncio.gather(_smtp_health(inbox), _imap_health(inbox))
        problems = [f"{name}: {fact}" for name, fact in (("SMTP", smtp), ("IMAP", imap)) if fact not in _FINE]
        return {"ok": not problems, "detail": "; ".join(problems), "smtp": smtp, "imap": imap}


_FINE = ("ok", "not configured")
_HEALTH_TIMEOUT_S = 15.0


async def _smtp_health(inbox: InboxConfig) -> str:
    if not inbox.config.get("smtp_host"):
        return "not configured"
    try:
        async with asyncio.timeout(_HEALTH_TIMEOUT_S):
            client = await open_smtp(inbox)
            try:
                await client.noop()
            finally:
                client.close()
    except ChannelError as error:
        return error.detail
    except Exception as error:  # health never raises
        return f"{type(error).__name__}: {error}"[:300]
    return "ok"


async def _imap_health(inbox: InboxConfig) -> str:
    try:
        server = imap_server(inbox)
        if server is None:
            return "not configured"
        async with asyncio.timeout(_HEALTH_TIMEOUT_S):
            connection = await ImapConnection.connect(server)
            try:
                await connection.select(str(inbox.config.get("imap_folder") or "INBOX"))
            finally:
                await connection.close()
    except ChannelError as error:
        return error.detail
    except FolderMissing as error:
        return f"no such folder: {error}"
    except Exception as error:  # health never raises
        return f"{type(error).__name__}: {error}"[:300]
    return "ok"


__all__ = [
    "EmailChannel",
    "ListenAddress",
    "MailListener",
    "make_reply_token",
    "make_subject_token",
    "outbound_message_id",
    "parse_reply_token",
    "parse_subject_token",
]
