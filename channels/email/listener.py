"""Mail coming in by LMTP or SMTP from the site's mail server, for all email inboxes at once.

It stores and answers; it parses nothing. Nothing that goes wrong here may turn into a permanent refusal (the
sender would get a bounce and we would have lost a mail), except an unknown recipient and a mail that is too
large. It offers no login, no STARTTLS (aiosmtpd never reports the end of a connection whose handshake
failed) and relays nothing: put a real mail server in front of it and let the two talk on one machine or a
private network.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session
from typing_extensions import override

from channels.contract import InboxConfig, RawItem
from channels.email.account import without_tag
from channels.email.charsets import clean_text
from channels.email.headers import normal_address
from channels.email.items import make_item
from channels.email.tokens import token_in_address
from crm_core.clock import Clock

log = logging.getLogger(__name__)

#: finds the inbox of an address without plus-tag, lower case; None if there is none
Lookup = Callable[[str], Awaitable[InboxConfig | None]]
#: stores one item durably for an inbox; the mail is acknowledged when it returns
Store = Callable[[int, RawItem], Awaitable[None]]

DATA_SIZE_LIMIT = 25 * 1024 * 1024  # bytes
#: RFC 5321 allows 1,000 bytes in a line; real senders write more, and refusing them loses mail
LINE_LIMIT = 1024 * 1024
MAX_CONNECTIONS = 50
MAX_RECIPIENTS = 100
IDLE_TIMEOUT_S = 300.0
TRY_LATER = "451 4.3.0 Cannot store the mail now, please try again later"


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """`port` 0 takes a free one. `protocol` is "lmtp" (preferred: an answer for each recipient) or "smtp"."""

    protocol: Literal["lmtp", "smtp"]
    port: int
    host: str = "127.0.0.1"


class MailListener:
    """Servers on the running loop, from `start` to `close`."""

    def __init__(
        self,
        lookup: Lookup,
        store: Store,
        clock: Clock,
        listen: tuple[ListenAddress, ...],
        *,
        hostname: str = "localhost",
        data_size_limit: int = DATA_SIZE_LIMIT,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._handler = _Handler(lookup, store, clock)
        self._listen = listen
        self._options: dict[str, Any] = {
            "data_size_limit": data_size_limit,
            "enable_SMTPUTF8": True,
            "hostname": hostname,
            "ident": "Switchboard",
            "timeout": IDLE_TIMEOUT_S,
        }
        self._max_connections = max_connections
        self._servers: list[asyncio.Server] = []
        self._open: set[_Smtp | _Lmtp] = set()
        #: protocol -> the port it listens on, once started
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        """Bind all addresses. Raises OSError if one is taken; then none stays bound."""
        loop = asyncio.get_running_loop()
        try:
            for address in self._listen:
                server = await loop.create_server(self._factory(address.protocol), address.host, address.port)
                self._servers.append(server)
                self.ports[address.protocol] = server.sockets[0].getsockname()[1]
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Stop accepting and drop open connections: a mail that was not answered 250 is sent again by its
        sender.
        """
        for server in self._servers:
            server.close()
        connections = list(self._open)
        for connection in connections:
            connection.drop()
        for connection in connections:
            await connection.ended()
        # Aborted transports report their end in one of the loop's next turns.
        while self._open:  # noqa: ASYNC110
            await asyncio.sleep(0)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        self.ports.clear()

    def _factory(self, protocol: str) -> Callable[[], asyncio.BaseProtocol]:
        loop = asyncio.get_running_loop()
        kind = _Lmtp if protocol == "lmtp" else _Smtp

        def connect() -> asyncio.BaseProtocol:
            if len(self._open) >= self._max_connections:
                return _Busy()
            return kind(self._handler, self._open, loop=loop, **self._options)

        return connect


class _Handler:
    """aiosmtpd's hooks. Names and arguments are the library's."""

    def __init__(self, lookup: Lookup, store: Store, clock: Clock) -> None:
        self._lookup, self._store, self._clock = lookup, store, clock

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if len(envelope.rcpt_tos) >= MAX_RECIPIENTS:
            return "452 4.5.3 Too many recipients"
        try:
            inbox = await self._inbox_of(address)
        except Exception:
            log.exception("email_lookup_failed")
            return TRY_LATER
        if inbox is None:
            return "550 5.1.1 No such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """One answer for the mail (SMTP), or one for each recipient in the order they were named (LMTP)."""
        answers = await self._store_all(envelope)
        if isinstance(server, LMTP):
            return "\r\n".join(answers)
        # SMTP has one answer for all. Where some inboxes have the mail already, the sender's next try does no
        # harm to them: their copy has the same key.
        return next((answer for answer in answers if not answer.startswith("250")), answers[0])

    async def handle_exception(self, error: Exception) -> str:
        """Whatever a command breaks on: our internals are nobody's business, and the sender shall come
        again.
        """
        log.error("email_listener_error", exc_info=error)
        return TRY_LATER

    async def _store_all(self, envelope: Envelope) -> list[str]:
        raw = bytes(envelope.original_content or b"")
        sender = envelope.mail_from or ""
        by_inbox: dict[int, str] = {}
        stored: dict[int, str] = {}
        owners: list[int | None] = []
        for address in envelope.rcpt_tos:
            try:
                inbox = await self._inbox_of(address)
            except Exception:
                log.exception("email_lookup_failed")
                inbox = None
            owners.append(inbox.id if inbox else None)
            # Of several addresses of one inbox the one with a reply token is kept.
            if inbox and (inbox.id not in by_inbox or token_in_address(address)):
                by_inbox[inbox.id] = address
        for inbox_id, address in by_inbox.items():
            try:
                item = make_item(
                    raw,
                    received_at=self._clock.now_ms(),
                    envelope_from="" if sender == "<>" else normal_address(sender) or clean_text(sender),
                    envelope_to=normal_address(address),
                )
                await self._store(inbox_id, item)
                stored[inbox_id] = "250 2.0.0 OK"
            except Exception:
                log.exception("email_store_failed")
                stored[inbox_id] = TRY_LATER
        return [TRY_LATER if owner is None else stored[owner] for owner in owners]

    async def _inbox_of(self, address: str) -> InboxConfig | None:
        normal = normal_address(address)
        if not normal:
            return None
        # An inbox may have a plus-address of its own.
        return await self._lookup(normal) or await self._lookup(without_tag(normal))


class _Tracked:
    """What both servers add to aiosmtpd's: the register of open connections and a prompt end."""

    line_length_limit = LINE_LIMIT
    transport: asyncio.Transport | None
    _handler_coroutine: "asyncio.Task[None] | None"

    def __init__(self, handler: _Handler, register: set[Any], **options: Any) -> None:
        self._register = register
        super().__init__(handler, **options)  # type: ignore[call-arg]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._register.add(self)
        super().connection_made(transport)  # type: ignore[misc]

    def connection_lost(self, error: Exception | None) -> None:
        self._register.discard(self)
        super().connection_lost(error)  # type: ignore[misc]

    def drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    async def ended(self) -> None:
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
            await asyncio.wait([self._handler_coroutine])


class _Smtp(_Tracked, SMTP):  # type: ignore[misc]
    pass


class _Lmtp(_Tracked, LMTP):  # type: ignore[misc]
    """aiosmtpd answers a refused body once; an LMTP client waits for one answer for each recipient (RFC
    2033).
    """

    _in_body = False

    @override
    async def smtp_DATA(self, arg: str) -> None:
        try:
            await super().smtp_DATA(arg)
        finally:
            self._in_body = False

    @override
    async def push(self, status: Any) -> None:
        if self._in_body and isinstance(status, str) and "\r\n" not in status:
            recipients = len(self.envelope.rcpt_tos) if self.envelope else 1
            status = "\r\n".join([status] * max(1, recipients))
        if isinstance(status, str) and status.startswith("354"):
            self._in_body = True
        await super().push(status)


class _Busy(asyncio.Protocol):
    """One connection too many."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.WriteTransport):
            transport.write(b"421 4.3.2 Too many connections, please try again later\r\n")
        transport.close()
