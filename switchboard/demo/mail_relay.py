"""The demo's mail relay: takes what the product sends by SMTP, keeps it in memory, delivers it to nobody."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

from aiosmtpd.smtp import SMTP
from typing_extensions import override

_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Relayed:
    """A mail as it left."""

    sender: str
    recipients: tuple[str, ...]
    data: bytes

    @property
    def parsed(self) -> EmailMessage:
        return message_from_bytes(self.data, policy=policy.default)


class MailRelay:
    """`async with MailRelay() as relay`: an SMTP server on a free port of the loopback interface."""

    def __init__(self) -> None:
        self.port = 0
        self.mails: deque[Relayed] = deque(maxlen=_KEPT)
        self.on_mail: list[Callable[[Relayed], None]] = []
        self._server: asyncio.Server | None = None
        self._open: set[SMTP] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        relay = self

        class Connection(SMTP):
            @override
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                relay._open.add(self)
                super().connection_made(transport)

            @override
            def connection_lost(self, error: Exception | None) -> None:
                relay._open.discard(self)
                super().connection_lost(error)

        self._server = await loop.create_server(
            lambda: Connection(self, loop=loop, hostname="relay.localhost", enable_SMTPUTF8=True),
            "127.0.0.1",
            0,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._open):
            if isinstance(connection.transport, asyncio.Transport):
                connection.transport.abort()
        # Aborted transports report their end in one of the loop's next turns; some never do.
        for _ in range(20):
            await asyncio.sleep(0)
        await self._server.wait_closed()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        mail = Relayed(envelope.mail_from or "", tuple(envelope.rcpt_tos), bytes(envelope.content or b""))
        self.mails.append(mail)
        for told in self.on_mail:
            told(mail)
        return "250 2.0.0 taken, and it goes no further"
