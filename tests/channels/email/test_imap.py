"""The IMAP poller against a real dovecot: nothing lost, nothing doubled, whatever happens to the folder."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from channels.contract import ChannelContext, InboxConfig, RawItem
from channels.email import EmailChannel, imap
from crm_core.clock import SystemClock
from tests.fakes.dovecot import PASSWORD, Dovecot
from tests.fakes.self_signed import write_certificate

LONG_S = 30.0  # a test that waits this long has failed


class MemorySink:
    """Keeps rows by dedupe key, as the inbound table does, and can fail like a database."""

    def __init__(self) -> None:
        self.rows: dict[str, RawItem] = {}
        self.saved: dict[str, Any] = {}
        self.fail_times = 0
        self.reads = 0
        self.calls: list[tuple[int, dict[str, Any] | None]] = []
        self._changed = asyncio.Condition()

    async def cursor(self) -> dict[str, Any]:
        async with self._changed:
            self.reads += 1  # the poller reads it once in each round
            self._changed.notify_all()
        return dict(self.saved)

    async def store(self, items: Any, *, cursor: dict[str, Any] | None = None) -> None:
        async with self._changed:
            if self.fail_times:
                self.fail_times -= 1
                raise ConnectionError("database away")
            for item in items:
                self.rows.setdefault(item.dedupe_key, item)
            if cursor is not None:
                self.saved = cursor
            self.calls.append((len(items), cursor))
            self._changed.notify_all()

    async def until(self, condition: Any) -> None:
        async with self._changed:
            async with asyncio.timeout(LONG_S):
                await self._changed.wait_for(condition)

    def subjects(self) -> list[str]:
        return sorted(
            line.removeprefix(b"Subject: ").decode()
            for item in self.rows.values()
            for line in item.body.split(b"\r\n")
            if line.startswith(b"Subject: ")
        )


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with Dovecot() as server:
        yield server


@pytest.fixture(autouse=True)
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "FIRST_BACKOFF_S", 0.01)


def an_inbox(server: Dovecot, user: str, **config: Any) -> InboxConfig:
    base = {"address": f"{user}@acme.example", "imap_host": "127.0.0.1", "imap_port": server.imap_port,
            "imap_tls": "none", "imap_user": user, "imap_password": PASSWORD}  # fmt: skip
    return InboxConfig(id=1, key="k", channel="email", name="Support", secret="s", config=base | config)


def a_mail(number: int, body: str = "hello") -> bytes:
    return (
        f"From: ann@test.example\r\nTo: support@acme.example\r\nSubject: mail {number}\r\n"
        f"Message-ID: <{number}@test.example>\r\n\r\n{body} {number} (with (odd) parentheses) {{12}}\r\n"
    ).encode()


@contextlib.asynccontextmanager
async def polling(inbox: InboxConfig, sink: MemorySink) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with aiohttp.ClientSession() as http:
        ctx = ChannelContext(http=http, clock=SystemClock())
        task = asyncio.ensure_future(EmailChannel().run(inbox, sink, ctx, stop))
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(LONG_S):
                await task


async def test_mails_that_wait_are_stored_and_stay_unread(dovecot: Dovecot) -> None:
    for number in (1, 2, 3):
        await dovecot.deliver("reader", a_mail(number))
    sink = MemorySink()
    async with polling(an_inbox(dovecot, "reader"), sink):
        await sink.until(lambda: sink.saved.get("last_uid") == 3)
    assert sink.subjects() == ["mail 1", "mail 2", "mail 3"]
    assert next(iter(sink.rows.values())).body.endswith(b"parentheses) {12}\r\n")
    unseen = await dovecot.command("reader", "SELECT INBOX", "SEARCH UNSEEN")
    assert b"* SEARCH 1 2 3\r\n" in unseen


async def test_a_mail_that_comes_later_is_pushed(dovecot: Dovecot) -> None:
    sink = MemorySink()
    async with polling(an_inbox(dovecot, "pushed"), sink):
        await sink.until(lambda: "last_uid" in sink.saved)
        for number in (1, 2, 3):
            await dovecot.deliver("pushed", a_mail(number))
            await sink.until(lambda expected=number: len(sink.rows) == expected)
    assert sink.saved["last_uid"] == 3


async def test_a_restart_goes_on_from_the_cursor(dovecot: Dovecot) -> None:
    sink = MemorySink()
    inbox = an_inbox(dovecot, "restart")
    await dovecot.deliver("restart", a_mail(1))
    async with polling(inbox, sink):
        await sink.until(lambda: sink.saved.get("last_uid") == 1)
    for number in (2, 3):
        await dovecot.deliver("restart", a_mail(number))
    sink.calls.clear()
    async with polling(inbox, sink):
        await sink.until(lambda: sink.saved.get("last_uid") == 3)
    assert sink.subjects() == ["mail 1", "mail 2", "mail 3"]
    assert sum(count for count, _ in sink.calls) == 2  # "n:*" did not bring mail 1 again


async def test_a_folder_made_anew_is_read_again_without_doubles(dovecot: Dovecot) -> None:
    """UIDVALIDITY changes and UIDs start at 1: the old cursor would hide every new mail."""
    sink = MemorySink()
    inbox = an_inbox(dovecot, "moved", imap_folder="Requests")
    literal = a_mail(1)
    await dovecot.command("moved", "CREATE Requests")
    for number in (1, 2, 3):
        await dovecot.deliver("moved", a_mail(number))
    await dovecot.command("moved", "SELECT INBOX", "COPY 1:3 Requests")
    async with polling(inbox, sink):
        await sink.until(lambda: sink.saved.get("last_uid") == 3)
    before = sink.saved["uidvalidity"]
    await dovecot.command("moved", "DELETE Requests", "CREATE Requests")
    await dovecot.deliver("moved", a_mail(4))
    await dovecot.command("moved", "SELECT INBOX", "COPY 1,4 Requests")
    async with polling(inbox, sink):
        await sink.until(lambda: sink.saved.get("uidvalidity") != before and sink.saved.get("last_uid") == 2)
    assert sink.subjects() == ["mail 1", "mail 2", "mail 3", "mail 4"]
    assert literal.split(b"\r\n\r\n")[1] in next(iter(sink.rows.values())).body


async def test_the_folder_is_deleted_under_an_open_connection(dovecot: Dovecot) -> None:
    sink = MemorySink()
    await dovecot.command("pulled", "CREATE Work")
    async with polling(an_inbox(dovecot, "pulled", imap_folder="Work"), sink):
        await sink.until(lambda: "uidvalidity" in sink.saved)
        before = sink.saved["uidvalidity"]
        await dovecot.command("pulled", "DELETE Work", "CREATE Work")
        await dovecot.deliver("pulled", a_mail(1))
        await dovecot.command("pulled", "SELECT INBOX", "COPY 1 Work")
        await sink.until(lambda: len(sink.rows) == 1)
    assert sink.saved["uidvalidity"] != before


async def test_a_failing_database_loses_no_mail(dovecot: Dovecot) -> None:
    sink = MemorySink()
    sink.fail_times = 3
    await dovecot.deliver("dbdown", a_mail(1))
    async with polling(an_inbox(dovecot, "dbdown"), sink):
        await sink.until(lambda: sink.saved.get("last_uid") == 1)
    assert sink.subjects() == ["mail 1"]


async def test_many_mails_come_in_bounded_transactions_in_order(dovecot: Dovecot) -> None:
    for number in range(1, 46):
        await dovecot.deliver("many", a_mail(number))
    sink = MemorySink()
    async with polling(an_inbox(dovecot, "many"), sink):
        await sink.until(lambda: sink.saved.get("last_uid") == 45)
    assert len(sink.rows) == 45
    assert max(count for count, _ in sink.calls) <= 20
    cursors = [cursor["last_uid"] for _, cursor in sink.calls]
    assert cursors == sorted(cursors)


async def test_of_a_mail_that_is_too_large_the_headers_are_kept(
    dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imap, "MAX_MAIL", 10_000)
    await dovecot.deliver("large", a_mail(1, "x" * 900 + "\r\n" + "\r\n".join(["y" * 900] * 20)))
    await dovecot.deliver("large", a_mail(2))
    sink = MemorySink()
    inbox = an_inbox(dovecot, "large")
    async with polling(inbox, sink):
        await sink.until(lambda: sink.saved.get("last_uid") == 2)
    assert sink.subjects() == ["mail 1", "mail 2"]
    big = next(item for item in sink.rows.values() if b"mail 1" in item.body)
    [envelope] = EmailChannel().parse(big, inbox)
    assert envelope.subject == "mail 1"
    assert "truncated_size" in envelope.parse_warnings


async def test_a_first_reading_can_leave_old_mail_alone(dovecot: Dovecot) -> None:
    await dovecot.deliver("fresh", a_mail(1))
    sink = MemorySink()
    async with polling(an_inbox(dovecot, "fresh", imap_days="0"), sink):
        await sink.until(lambda: sink.saved.get("last_uid") == 1)
        await dovecot.deliver("fresh", a_mail(2))
        await sink.until(lambda: len(sink.rows) == 1)
    assert sink.subjects() == ["mail 2"]


async def test_a_wrong_password_is_reported_and_stop_still_works(dovecot: Dovecot) -> None:
    inbox = an_inbox(dovecot, "refused", imap_password="wrong")
    sink = MemorySink()
    async with polling(inbox, sink):
        pass
    async with aiohttp.ClientSession() as http:
        health = await EmailChannel().health(inbox, ChannelContext(http=http, clock=SystemClock()))
    assert health["ok"] is False
    assert "refused" in health["imap"]


async def test_a_folder_with_an_international_name(dovecot: Dovecot) -> None:
    await dovecot.command("intl", "CREATE &BBcEMARPBDIEOg- &- x".replace(" &- x", ""))
    await dovecot.deliver("intl", a_mail(1))
    await dovecot.command("intl", "SELECT INBOX", "COPY 1 &BBcEMARPBDIEOg-")
    sink = MemorySink()
    async with polling(an_inbox(dovecot, "intl", imap_folder="Заявк"), sink):
        await sink.until(lambda: len(sink.rows) == 1)


async def test_without_idle_the_folder_is_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap, "POLL_S", 0.05)
    with Dovecot(idle=False) as server:
        sink = MemorySink()
        async with polling(an_inbox(server, "polled"), sink):
            await sink.until(lambda: "last_uid" in sink.saved)
            await server.deliver("polled", a_mail(1))
            await sink.until(lambda: len(sink.rows) == 1)
            # Rounds with nothing new store nothing, although "n:*" brings the last mail each time.
            seen = sink.reads
            await sink.until(lambda: sink.reads >= seen + 3)
    assert sum(count for count, _ in sink.calls) == 1


async def test_the_server_restarts(dovecot: Dovecot) -> None:
    sink = MemorySink()
    async with polling(an_inbox(dovecot, "again"), sink):
        await sink.until(lambda: "last_uid" in sink.saved)
        await asyncio.to_thread(dovecot.restart)
        await dovecot.deliver("again", a_mail(1))
        await sink.until(lambda: len(sink.rows) == 1)


async def test_starttls_with_a_private_authority_and_without(tmp_path: Path) -> None:
    pem = write_certificate(tmp_path / "tls.pem")
    with Dovecot(tls_pem=tmp_path / "tls.pem") as server:
        await server.deliver("secure", a_mail(1))
        sink = MemorySink()
        async with polling(an_inbox(server, "secure", imap_tls="starttls", tls_ca=pem), sink):
            await sink.until(lambda: len(sink.rows) == 1)
        untrusted = an_inbox(server, "secure", imap_tls="starttls")
        async with aiohttp.ClientSession() as http:
            health = await EmailChannel().health(untrusted, ChannelContext(http=http, clock=SystemClock()))
    assert "certificate is not trusted" in health["imap"]
