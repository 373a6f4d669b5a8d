"""Customers who are not at Telegram's or the PBX's end: mail by LMTP, the chat window of a site.

They behave as real senders do: what was not acknowledged is sent again, the same, until it is.
"""

import asyncio
import contextlib
import itertools
import json
import smtplib
from dataclasses import dataclass, field
from email.message import EmailMessage
from types import TracebackType
from typing import Any, Self

import aiohttp

from switchboard.demo.people import SUPPORT_ADDRESS
from tests.e2e.bureau import Bureau
from tests.e2e.waiting import PATIENCE_S, until

_PAUSE_S = 0.1
_ACK_S = 5.0


@dataclass
class Correspondent:
    """Somebody with a mailbox. `ids` are the Message-IDs of his thread, oldest first."""

    at: Bureau
    address: str
    name: str
    ids: list[str] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def write(self, text: str, *, subject: str, to: str = SUPPORT_ADDRESS) -> EmailMessage:
        """His next mail of the thread."""
        mail = EmailMessage()
        mail["From"] = f'"{self.name}" <{self.address}>'
        mail["To"] = to
        mail["Subject"] = subject
        mail["Message-ID"] = f"<{next(self._numbers)}.{self.address.replace('@', '.at.')}@mail.test>"
        mail["Date"] = "Mon, 23 Nov 2026 10:00:00 +0200"
        if self.ids:
            mail["In-Reply-To"] = self.ids[-1]
            mail["References"] = " ".join(self.ids)
        mail.set_content(text)
        self.ids.append(mail["Message-ID"])
        return mail

    async def send(self, mail: EmailMessage, *, to: str = SUPPORT_ADDRESS) -> int:
        """Deliver as a mail server does: again until it is taken. Returns the number of tries."""
        raw = mail.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for tries in itertools.count(1):
            if await asyncio.to_thread(_lmtp, self.at.place.lmtp_port, self.address, to, raw):
                return tries
            await asyncio.sleep(_PAUSE_S)
        raise AssertionError("unreachable")


def _lmtp(port: int, sender: str, recipient: str, raw: bytes) -> bool:
    """Whether it was taken; False asks to come again. Raises for a refusal for good."""
    try:
        with smtplib.LMTP("127.0.0.1", port, timeout=10) as server:
            server.sendmail(sender, [recipient], raw)
        return True
    except (smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused, smtplib.SMTPResponseException) as error:
        code = (
            error.smtp_code
            if isinstance(error, smtplib.SMTPResponseException)
            else next(iter(error.recipients.values()))[0]
        )
        if code >= 500:
            raise
        return False
    except (smtplib.SMTPServerDisconnected, OSError):
        # Perhaps it was taken before the connection broke: the same mail comes again.
        return False


@dataclass
class Visitor:
    """A visitor of the site with the chat open; reconnects and repeats what was not acknowledged."""

    at: Bureau
    tag: str
    name: str
    locale: str = "en"
    seen: dict[int, dict[str, Any]] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)
    conversation_id: int | None = None
    _session: str = ""
    _http: aiohttp.ClientSession | None = None
    _ws: aiohttp.ClientWebSocketResponse | None = None
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _acks: dict[str, dict[str, Any]] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        body = {
            "inbox_key": self.at.inboxes["webchat"]["key"],
            "locale": self.locale,
            "fields": {"name": self.name},
        }
        opened = await until(lambda: self._open(body), f"a chat session for {self.name}")
        assert opened is not None
        self._session = opened["session"]
        self._task = asyncio.create_task(self._stay(), name=f"visitor-{self.tag}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    @property
    def answers(self) -> list[str]:
        """What people and bots have said to him, in order."""
        return [m["text"] for _, m in sorted(self.seen.items()) if m["direction"] == "out"]

    async def say(self, text: str, **more: Any) -> dict[str, Any]:
        """Returns the acknowledgement."""
        client_id = f"{self.tag}-{next(self._numbers)}"
        while True:
            ws = self._ws
            if ws is not None and not ws.closed:
                with contextlib.suppress(ConnectionError):
                    await ws.send_json({"type": "message", "client_id": client_id, "text": text, **more})
                    ack = await self._acknowledged(client_id, ws)
                    if ack is not None:
                        return ack
            await asyncio.sleep(_PAUSE_S)

    async def send_frame(self, frame: Any) -> None:
        """Any frame, also broken ones."""
        await until(lambda: self._ws is not None and not self._ws.closed, "the chat's socket")
        assert self._ws is not None
        await (self._ws.send_str(frame) if isinstance(frame, str) else self._ws.send_json(frame))

    async def _acknowledged(
        self, client_id: str, ws: aiohttp.ClientWebSocketResponse
    ) -> dict[str, Any] | None:
        """The ack; None where the connection broke or the server asked to come later."""
        deadline = asyncio.get_running_loop().time() + _ACK_S
        while client_id not in self._acks:
            if ws.closed or asyncio.get_running_loop().time() > deadline:
                return None
            await asyncio.sleep(0.01)
        frame = self._acks.pop(client_id)
        if frame["type"] == "ack":
            return frame
        assert frame["code"] in ("rate_limited", "unavailable", "internal"), frame
        await asyncio.sleep(min(frame.get("retry_after_s", _PAUSE_S), 2.0))
        return None

    async def _open(self, body: dict[str, Any]) -> dict[str, Any] | None:
        assert self._http is not None
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self._http.post(f"{self.at.url}/chat/v1/session", json=body) as answer:
                if answer.status == 200:
                    return dict(await answer.json())
                assert answer.status in (429, 503), (answer.status, await answer.text())
        return None

    async def _stay(self) -> None:
        """Keep a socket open; after a break go on behind the last message seen."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
                await self._listen()
            self._ws = None
            await asyncio.sleep(_PAUSE_S)

    async def _listen(self) -> None:
        assert self._http is not None
        async with self._http.ws_connect(f"{self.at.url}/chat/v1/stream") as ws:
            await ws.send_json({"type": "auth", "session": self._session, "after": max(self.seen, default=0)})
            async for item in ws:
                if item.type is not aiohttp.WSMsgType.TEXT:
                    continue
                frame = json.loads(item.data)
                if frame["type"] == "ready":
                    self._ws = ws
                elif frame["type"] in ("ack", "error"):
                    self._acks[frame.get("client_id") or ""] = frame
                    if frame["type"] == "error":
                        self.others.append(frame)
                elif frame["type"] == "message":
                    assert frame["seq"] not in self.seen, f"message {frame['seq']} came twice"
                    self.seen[frame["seq"]] = frame
                elif frame["type"] == "ping":
                    await ws.send_json({"type": "pong"})
                else:
                    self.others.append(frame)


__all__ = ["PATIENCE_S", "Correspondent", "Visitor"]
