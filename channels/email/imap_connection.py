"""One IMAP connection: aioimaplib with its traps closed, and the few commands the poller needs, typed.

Traps of aioimaplib 2.0: commands never fail when the connection breaks; the user and folder names are sent
unquoted; there is no STARTTLS; its reader recurses once for each line of a network read, so answers must be
asked for in small batches; messages that arrive during a command are announced and thrown away.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Awaitable
from typing import Any

from aioimaplib import IMAP4, AioImapException, Command, IMAP4ClientProtocol
from aioimaplib.aioimaplib import quoted

from channels.contract import AuthFailed, Transient
from channels.email.account import Server
from channels.email.send import tls_context

TIMEOUT_S = 60.0  # without a byte
_UIDVALIDITY = re.compile(rb"\[UIDVALIDITY (\d+)\]", re.IGNORECASE)
_UIDNEXT = re.compile(rb"\[UIDNEXT (\d+)\]", re.IGNORECASE)
_UID = re.compile(rb"\bUID (\d+)", re.IGNORECASE)
_SIZE = re.compile(rb"\bRFC822\.SIZE (\d+)", re.IGNORECASE)
_NUMBER = re.compile(rb"\d+")
_MAX_COMMAND_SET = 50  # messages in one FETCH: bounds the reader's recursion


class FolderMissing(Exception):
    """SELECT was refused."""


class ImapConnection:
    """Open with `connect`; every method raises Transient when the connection breaks or the server falls
    silent.
    """

    def __init__(self, client: "_Client") -> None:
        self._client = client

    @classmethod
    async def connect(cls, server: Server) -> "ImapConnection":
        """Connected and logged in. Raises AuthFailed or Transient."""
        context = None if server.tls == "none" else _context(server)
        client = _Client(
            server.host, server.port, timeout=TIMEOUT_S, ssl_context=context if server.tls == "tls" else None
        )
        connection = cls(client)
        try:
            await connection._guard(client.wait_hello_from_server())
            if server.tls == "starttls" and context is not None:
                await connection._guard(client.start_tls(context, server.host))
            answer = await connection._guard(client.login(quoted(server.user), server.password))
            if answer.result != "OK":
                raise _login_refused(answer.lines)
            if not client.has_capability("IDLE"):
                await connection._guard(client.protocol.capability())
        except BaseException:
            connection.abort()
            raise
        return connection

    @property
    def can_idle(self) -> bool:
        return bool(self._client.has_capability("IDLE"))

    async def select(self, folder: str) -> tuple[int, int]:
        """(UIDVALIDITY, UIDNEXT) of the folder, 0 for a UIDNEXT the server does not tell. Raises
        FolderMissing.
        """
        answer = await self._guard(self._client.select(quoted(modified_utf7(folder))))
        text = b"\n".join(bytes(line) for line in answer.lines)
        if answer.result != "OK":
            raise FolderMissing(_readable(answer.lines))
        validity, following = _UIDVALIDITY.search(text), _UIDNEXT.search(text)
        if validity is None:
            raise Transient("the IMAP server gives no UIDVALIDITY")
        self._client.protocol.exists_seen = False  # SELECT's own EXISTS is no news
        return int(validity[1]), int(following[1]) if following else 0

    async def search(self, criteria: str) -> list[int]:
        """UIDs in ascending order."""
        answer = await self._guard(self._client.uid_search(criteria, charset=None))
        if answer.result != "OK":
            raise Transient(f"IMAP search failed: {_readable(answer.lines)}")
        # All lines but the last, which is the status text and may hold numbers of its own.
        return sorted({int(number) for line in answer.lines[:-1] for number in _NUMBER.findall(bytes(line))})

    async def sizes(self, uids: list[int]) -> dict[int, int]:
        """Sizes in bytes; a UID whose message is gone is missing."""
        found: dict[int, int] = {}
        for start in range(0, len(uids), _MAX_COMMAND_SET):
            batch = ",".join(map(str, uids[start : start + _MAX_COMMAND_SET]))
            answer = await self._guard(self._client.uid("fetch", batch, "(UID RFC822.SIZE)"))
            if answer.result != "OK":
                raise Transient(f"IMAP fetch failed: {_readable(answer.lines)}")
            for line in answer.lines[:-1]:
                uid, size = _UID.search(bytes(line)), _SIZE.search(bytes(line))
                if uid and size:
                    found[int(uid[1])] = int(size[1])
        return found

    async def body(self, uid: int, *, headers_only: bool = False) -> bytes | None:
        """The raw mail, or its header block; None if it is gone. PEEK leaves the Seen flag alone."""
        section = "BODY.PEEK[HEADER]" if headers_only else "BODY.PEEK[]"
        answer = await self._guard(self._client.uid("fetch", str(uid), f"(UID {section})"))
        if answer.result != "OK":
            raise Transient(f"IMAP fetch failed: {_readable(answer.lines)}")
        # The library gives literals as bytearray and everything else as bytes.
        literals = [bytes(line) for line in answer.lines if isinstance(line, bytearray)]
        return max(literals, key=len) if literals else None

    async def noop(self) -> None:
        await self._guard(self._client.noop())

    async def wait_for_mail(self, timeout_s: float) -> None:
        """IDLE until the server pushes anything or `timeout_s` is over. A push is only a hint."""
        if self._client.protocol.exists_seen:
            return
        idle = await self._guard(self._client.idle_start(timeout=timeout_s + TIMEOUT_S))
        try:
            await self._guard(self._client.wait_server_push(timeout=timeout_s), silence_is_fine=True)
        except BaseException:
            idle.cancel()
            raise
        self._client.idle_done()
        await self._guard(asyncio.wait_for(idle, TIMEOUT_S))
        self._client.forget_pushes()

    async def close(self) -> None:
        """LOGOUT if it is heard. Never raises."""
        try:
            await asyncio.wait_for(self._guard(self._client.logout()), 5)
        except (Transient, TimeoutError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        self._client.abort()

    async def _guard(self, work: Awaitable[Any], *, silence_is_fine: bool = False) -> Any:
        """Wait for a command, but not longer than the connection lives."""
        task = asyncio.ensure_future(work)
        lost = self._client.lost
        try:
            await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Transient("the IMAP connection was lost")
            return task.result()
        except TimeoutError as error:
            if silence_is_fine:
                return None
            raise Transient("the IMAP server does not answer") from error
        except (AioImapException, OSError, ValueError, RecursionError) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                raise AuthFailed("the IMAP server's certificate is not trusted") from error
            raise Transient(f"IMAP: {type(error).__name__}: {error}"[:300]) from error
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)


class _Protocol(IMAP4ClientProtocol):  # type: ignore[misc]
    """Remembers announcements of new mail that come while a command runs."""

    exists_seen = False

    def _untagged_response(self, line: bytes) -> Any:
        if line.upper().endswith(b" EXISTS"):
            self.exists_seen = True
        return super()._untagged_response(line)


class _Client(IMAP4):  # type: ignore[misc]
    """aioimaplib's client with a future that ends with the connection."""

    lost: "asyncio.Future[None]"

    def create_client(
        self,
        host: str,
        port: int,
        loop: Any,
        _conn_lost_cb: Any = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.lost = loop.create_future()
        self.protocol = _Protocol(loop, self._connection_lost)
        self._client_task = loop.create_task(
            loop.create_connection(
                lambda: self.protocol,
                host,
                port,
                ssl=ssl_context,
                server_hostname=host if ssl_context else None,
            )
        )

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        answer = await self.protocol.execute(
            Command("STARTTLS", self.protocol.new_tag(), loop=self.protocol.loop)
        )
        if answer.result != "OK":
            raise AuthFailed("the IMAP server offers no STARTTLS")
        # Whatever came in clear after the OK was put there by somebody else (CVE-2011-0411).
        self.protocol.incomplete_line = b""
        loop = asyncio.get_running_loop()
        self.protocol.transport = await loop.start_tls(
            self.protocol.transport, self.protocol, context, server_hostname=host
        )
        await self.protocol.capability()

    def forget_pushes(self) -> None:
        while not self.protocol.idle_queue.empty():
            self.protocol.idle_queue.get_nowait()

    def abort(self) -> None:
        self._client_task.cancel()
        if self._idle_waiter is not None:
            self._idle_waiter.cancel()
        if self.protocol.transport is not None:
            self.protocol.transport.abort()

    def _connection_lost(self, _error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)


def modified_utf7(folder: str) -> str:
    """A folder name as IMAP writes it (RFC 3501 section 5.1.3)."""
    out: list[str] = []
    pending: list[str] = []

    def flush() -> None:
        if pending:
            data = (
                base64.b64encode("".join(pending).encode("utf-16-be", "replace"), b"+,").decode().rstrip("=")
            )
            out.append(f"&{data}-")
            pending.clear()

    for char in folder:
        if " " <= char <= "~":
            flush()
            out.append("&-" if char == "&" else char)
        else:
            pending.append(char)
    flush()
    return "".join(out)


def _context(server: Server) -> ssl.SSLContext:
    try:
        return tls_context(server)
    except (ssl.SSLError, ValueError) as error:
        raise AuthFailed("tls_ca is not a PEM certificate") from error


def _login_refused(lines: list[Any]) -> Exception:
    said = _readable(lines)
    # RFC 5530: the server's own trouble, not the password's.
    if any(word in said.upper() for word in ("[UNAVAILABLE]", "[INUSE]", "[LIMIT]", "[SERVERBUG]")):
        return Transient(f"IMAP login: {said}")
    return AuthFailed(f"IMAP login refused: {said}")


def _readable(lines: list[Any]) -> str:
    return b" ".join(bytes(line) for line in lines).decode("utf-8", "replace")[:300]
