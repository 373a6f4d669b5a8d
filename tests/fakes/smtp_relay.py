"""A real SMTP server (aiosmtpd) that records what it is given and can be told to misbehave.

Strict where the product could be sloppy: it refuses bodies with bare newlines, lines over 998 bytes and 8-bit headers
without SMTPUTF8, and it speaks AUTH and STARTTLS for real.
"""

import asyncio
import ssl
import warnings
from dataclasses import dataclass, field
from typing import Any, Self

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


@dataclass(frozen=True, slots=True)
class RelayedMail:
    sender: str  # '' for the null sender
    recipients: tuple[str, ...]
    data: bytes
    options: tuple[str, ...]
    login: str | None


@dataclass(slots=True)
class Orders:
    """How to behave from now on; None is well. `drop_at` is "connect", "rcpt", "data" (before 354) or "dot"."""

    answer_mail: str | None = None
    answer_rcpt: str | None = None
    answer_data: str | None = None
    drop_at: str | None = None
    keep_dropped: bool = False  # a mail dropped at "dot" was taken all the same: what OutcomeUnknown is about


@dataclass(slots=True)
class SmtpRelay:
    """Use as `async with SmtpRelay() as relay:`; then `relay.port`, `relay.mails`, `relay.orders`."""

    user: str | None = None
    password: str | None = None
    smtputf8: bool = True
    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    mails: list[RelayedMail] = field(default_factory=list)
    orders: Orders = field(default_factory=Orders)
    port: int = 0
    connections: int = 0
    _server: asyncio.Server | None = None
    _open: set[Any] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        relay = self

        class Connection(SMTP):
            def connection_made(self, transport):
                relay._open.add(self)
                relay.connections += 1
                super().connection_made(transport)
                if relay.orders.drop_at == "connect":
                    transport.abort()

            def connection_lost(self, error):
                relay._open.discard(self)
                super().connection_lost(error)

            async def smtp_DATA(self, arg):
                if relay.orders.drop_at == "data":
                    self.transport.abort()
                    return
                await super().smtp_DATA(arg)

        def connect():
            with warnings.catch_warnings():
                # aiosmtpd rightly warns of passwords in clear; here that is what is tested.
                warnings.simplefilter("ignore", UserWarning)
                return Connection(
                    self, loop=loop, hostname="relay.test", enable_SMTPUTF8=self.smtputf8, data_size_limit=30_000_000,
                    auth_required=self.user is not None, auth_require_tls=False, authenticator=self._authenticate,
                    tls_context=None if self.implicit_tls else self.tls,
                )  # fmt: skip

        self._server = await loop.create_server(
            connect, "127.0.0.1", 0, ssl=self.tls if self.implicit_tls else None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in list(self._open):
            if connection.transport is not None:
                connection.transport.abort()
            if connection._handler_coroutine is not None:
                connection._handler_coroutine.cancel()
                await asyncio.wait([connection._handler_coroutine])
        for _ in range(20):  # bounded: after a failed STARTTLS aiosmtpd never reports the end
            await asyncio.sleep(0)
        await self._server.wait_closed()

    def _authenticate(self, server, session, envelope, mechanism, data) -> AuthResult:
        right = (
            isinstance(data, LoginPassword)
            and data.login == (self.user or "").encode()
            and data.password == (self.password or "").encode()
        )
        return AuthResult(success=right, handled=False, auth_data=data.login if right else None)

    async def handle_MAIL(self, server, session, envelope, address, options):
        if self.orders.answer_mail:
            return self.orders.answer_mail
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.orders.drop_at == "rcpt":
            server.transport.abort()
            return "421 gone"
        if self.orders.answer_rcpt:
            return self.orders.answer_rcpt
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        if self.orders.drop_at == "dot":
            if self.orders.keep_dropped:
                self._keep(session, envelope)
            server.transport.abort()
            return "421 gone"
        if self.orders.answer_data:
            return self.orders.answer_data
        data = envelope.content
        if b"\n" in data.replace(b"\r\n", b"") or b"\r" in data.replace(b"\r\n", b""):
            return "550 5.6.0 bare newline"
        if any(len(line) > 998 for line in data.split(b"\r\n")):
            return "550 5.6.0 line too long"
        head = data.partition(b"\r\n\r\n")[0]
        if not head.isascii() and "SMTPUTF8" not in envelope.mail_options:
            return "550 5.6.7 8-bit header without SMTPUTF8"
        self._keep(session, envelope)
        return "250 2.0.0 OK"

    def _keep(self, session, envelope) -> None:
        login = session.auth_data.decode() if isinstance(session.auth_data, bytes) else None
        sender = "" if envelope.mail_from == "<>" else envelope.mail_from
        self.mails.append(
            RelayedMail(
                sender, tuple(envelope.rcpt_tos), bytes(envelope.content), tuple(envelope.mail_options), login
            )
        )
