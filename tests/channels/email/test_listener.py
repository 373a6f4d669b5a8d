"""The LMTP and SMTP servers, spoken to over real sockets."""

import asyncio
import smtplib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channels.contract import InboxConfig, RawItem
from channels.email import ListenAddress, MailListener, make_reply_token
from channels.email.parse import parse_mail
from crm_core.envelope import Auto

MAIL = b"From: ann@test.example\r\nTo: support@acme.example\r\nSubject: hi\r\nMessage-ID: <1@test.example>\r\n\r\nhello\r\n"


class FixedClock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


class Office:
    """Two inboxes and the rows stored for them; told when to fail."""

    def __init__(self) -> None:
        self.inboxes = {
            "support@acme.example": an_inbox(1, "support@acme.example"),
            "help@acme.example": an_inbox(1, "support@acme.example"),
            "sales@acme.example": an_inbox(2, "sales@acme.example"),
            "підтримка@приклад.укр": an_inbox(3, "підтримка@приклад.укр"),
        }
        self.rows: list[tuple[int, RawItem]] = []
        self.fail_for: set[int] = set()
        self.lookup_fails = False

    async def lookup(self, address: str) -> InboxConfig | None:
        if self.lookup_fails:
            raise ConnectionError("secret database host db-7 is down")
        return self.inboxes.get(address)

    async def store(self, inbox_id: int, item: RawItem) -> None:
        if inbox_id in self.fail_for:
            raise ConnectionError("secret database host db-7 is down")
        self.rows.append((inbox_id, item))


def an_inbox(number: int, address: str) -> InboxConfig:
    return InboxConfig(
        id=number, key=f"key{number}", channel="email", name="Inbox", secret="s", config={"address": address}
    )


@pytest.fixture
async def office() -> Office:
    return Office()


@pytest.fixture
async def listener(office: Office) -> AsyncIterator[MailListener]:
    listener = MailListener(
        office.lookup, office.store, FixedClock(),
        (ListenAddress("lmtp", 0), ListenAddress("smtp", 0)), data_size_limit=100_000, max_connections=5,
    )  # fmt: skip
    await listener.start()
    yield listener
    await listener.close()


async def talk(port: int, work: Callable[[smtplib.SMTP], Any], *, lmtp: bool = False) -> Any:
    """smtplib is a client nobody here wrote; it blocks, so it talks in a thread."""

    def run() -> Any:
        with (smtplib.LMTP if lmtp else smtplib.SMTP)("127.0.0.1", port, timeout=20) as client:
            return work(client)

    return await asyncio.to_thread(run)


async def dialog(port: int, *lines: bytes) -> bytes:
    """Raw bytes in, everything the server says out."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"".join(lines))
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def test_smtp_stores_before_it_says_yes(listener: MailListener, office: Office) -> None:
    await talk(
        listener.ports["smtp"], lambda c: c.sendmail("ann@test.example", ["support@acme.example"], MAIL)
    )
    [(inbox_id, item)] = office.rows
    assert inbox_id == 1
    assert item.body == MAIL
    assert item.meta == {"envelope_from": "ann@test.example", "envelope_to": "support@acme.example"}
    assert item.received_at == 1_700_000_000_000


async def test_an_unknown_recipient_is_refused_at_once(listener: MailListener, office: Office) -> None:
    def work(client: smtplib.SMTP) -> Any:
        client.ehlo()
        client.mail("ann@test.example")
        return client.rcpt("nobody@acme.example"), client.rcpt("support@other.example")

    answers = await talk(listener.ports["smtp"], work)
    assert [code for code, _ in answers] == [550, 550]
    assert all(text.startswith(b"5.1.1") for _, text in answers)
    assert office.rows == []


async def test_a_plus_address_finds_its_inbox_and_keeps_its_token(
    listener: MailListener, office: Office
) -> None:
    token = make_reply_token("app-secret", 42)
    tagged = f"Support+T{token.upper()}@ACME.example"
    await talk(listener.ports["lmtp"], lambda c: c.sendmail("ann@test.example", [tagged], MAIL), lmtp=True)
    [(inbox_id, item)] = office.rows
    [envelope] = parse_mail(item, office.inboxes["support@acme.example"])
    assert inbox_id == 1
    assert envelope.thread.reply_token == token


async def test_lmtp_answers_for_each_recipient(listener: MailListener, office: Office) -> None:
    """One inbox's failure must not cost the other's mail, nor double it on the retry."""
    office.fail_for = {2}
    answer = await dialog(
        listener.ports["lmtp"], b"LHLO x\r\nMAIL FROM:<ann@test.example>\r\nRCPT TO:<support@acme.example>\r\n",
        b"RCPT TO:<sales@acme.example>\r\nDATA\r\n" + MAIL + b".\r\nQUIT\r\n",
    )  # fmt: skip
    finals = answer.partition(b"354")[2].split(b"\r\n")[1:]
    assert finals[0].startswith(b"250 2.0.0")
    assert finals[1].startswith(b"451 4.3.0")
    assert finals[2].startswith(b"221")
    assert [inbox_id for inbox_id, _ in office.rows] == [1]


async def test_smtp_asks_to_come_again_if_one_of_two_inboxes_failed(
    listener: MailListener, office: Office
) -> None:
    office.fail_for = {2}

    def work(client: smtplib.SMTP) -> Any:
        client.ehlo()
        client.mail("ann@test.example")
        client.rcpt("support@acme.example")
        client.rcpt("sales@acme.example")
        return client.data(MAIL)

    code, _ = await talk(listener.ports["smtp"], work)
    office.fail_for = set()
    again, _ = await talk(listener.ports["smtp"], work)
    assert (code, again) == (451, 250)
    keys = {(inbox_id, item.dedupe_key) for inbox_id, item in office.rows}
    assert len(office.rows) == 3
    assert len(keys) == 2  # the repeated copy has the key of the first


async def test_two_addresses_of_one_inbox_make_one_row_with_the_token(
    listener: MailListener, office: Office
) -> None:
    token = make_reply_token("app-secret", 7)
    recipients = b"".join(
        f"RCPT TO:<{to}>\r\n".encode()
        for to in ("help@acme.example", f"support+t{token}@acme.example", "support@acme.example")
    )
    answer = await dialog(
        listener.ports["lmtp"], b"LHLO x\r\nMAIL FROM:<ann@test.example>\r\n" + recipients,
        b"DATA\r\n" + MAIL + b".\r\nQUIT\r\n",
    )  # fmt: skip
    assert answer.count(b"250 2.0.0 OK") == 3
    [(_, item)] = office.rows
    assert item.meta["envelope_to"] == f"support+t{token}@acme.example"


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
async def test_our_failures_are_temporary_and_tell_nothing(
    listener: MailListener, office: Office, protocol: str
) -> None:
    office.fail_for = {1}
    hello = b"LHLO x\r\n" if protocol == "lmtp" else b"EHLO x\r\n"
    answer = await dialog(
        listener.ports[protocol], hello, b"MAIL FROM:<a@test.example>\r\nRCPT TO:<support@acme.example>\r\nDATA\r\n",
        MAIL + b".\r\nQUIT\r\n",
    )  # fmt: skip
    assert b"451 4.3.0" in answer
    assert b"db-7" not in answer
    assert b"ConnectionError" not in answer


async def test_a_failing_lookup_is_temporary_too(listener: MailListener, office: Office) -> None:
    office.lookup_fails = True
    answer = await dialog(
        listener.ports["smtp"],
        b"EHLO x\r\nMAIL FROM:<a@test.example>\r\nRCPT TO:<support@acme.example>\r\nQUIT\r\n",
    )
    assert b"451 4.3.0" in answer
    assert b"db-7" not in answer


async def test_commands_that_break_the_library_do_not_bounce(listener: MailListener, office: Office) -> None:
    for broken in (b"<", b"<<>>@", b'<"@a>', b"<a@\xff\xfe>", b"<a@[>", b"<(((@b>", b"<@,@:x>"):
        answer = await dialog(
            listener.ports["smtp"],
            b"EHLO x\r\nMAIL FROM:<a@test.example>\r\nRCPT TO:" + broken + b"\r\nQUIT\r\n",
        )
        assert b"Traceback" not in answer
        assert b"Error: (" not in answer  # the library's way to print an exception


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
async def test_a_mail_over_the_limit_is_refused_for_good(
    listener: MailListener, office: Office, protocol: str
) -> None:
    hello = b"LHLO x\r\n" if protocol == "lmtp" else b"EHLO x\r\n"
    envelope = (
        b"MAIL FROM:<a@test.example>\r\nRCPT TO:<support@acme.example>\r\nRCPT TO:<sales@acme.example>\r\n"
    )
    body = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n"
    answer = await dialog(
        listener.ports[protocol],
        hello,
        envelope,
        b"DATA\r\n",
        body + (b"y" * 98 + b"\r\n") * 1100,
        b".\r\nQUIT\r\n",
    )
    assert answer.count(b"552 ") == (2 if protocol == "lmtp" else 1)
    announced = await dialog(
        listener.ports[protocol], hello, b"MAIL FROM:<a@test.example> SIZE=200000\r\nQUIT\r\n"
    )
    assert b"552 " in announced
    assert office.rows == []


async def test_long_lines_are_taken(listener: MailListener, office: Office) -> None:
    """RFC 5321 forbids lines over 998 bytes; shops send them, and their customers must not vanish."""
    mail = MAIL + b"z" * 50_000 + b"\r\n"
    await talk(
        listener.ports["smtp"], lambda c: c.sendmail("ann@test.example", ["support@acme.example"], mail)
    )
    assert office.rows[0][1].body == mail


async def test_dots_at_line_starts_survive(listener: MailListener, office: Office) -> None:
    mail = MAIL + b".\r\n..\r\n.x\r\n"
    await talk(
        listener.ports["smtp"], lambda c: c.sendmail("ann@test.example", ["support@acme.example"], mail)
    )
    assert office.rows[0][1].body == mail


async def test_a_smuggled_second_mail_stays_inside_the_first(listener: MailListener, office: Office) -> None:
    """Only CR LF dot CR LF ends a mail; a bare LF before the dot is how mails are smuggled past a relay."""
    smuggled = (
        b"\nx\n.\nMAIL FROM:<ceo@acme.example>\nRCPT TO:<sales@acme.example>\nDATA\nSubject: pay\n\npay\n"
    )
    answer = await dialog(
        listener.ports["smtp"], b"EHLO x\r\nMAIL FROM:<a@test.example>\r\nRCPT TO:<support@acme.example>\r\nDATA\r\n",
        MAIL + smuggled + b"\r\n.\r\nQUIT\r\n",
    )  # fmt: skip
    assert answer.count(b"354") == 1
    assert [inbox_id for inbox_id, _ in office.rows] == [1]


async def test_the_null_sender_is_kept(listener: MailListener, office: Office) -> None:
    await talk(listener.ports["smtp"], lambda c: c.sendmail("", ["support@acme.example"], MAIL))
    [(_, item)] = office.rows
    assert item.meta["envelope_from"] == ""
    [envelope] = parse_mail(item, office.inboxes["support@acme.example"])
    assert envelope.auto is Auto.BOUNCE


async def test_international_addresses(listener: MailListener, office: Office) -> None:
    def work(client: smtplib.SMTP) -> Any:
        client.ehlo()
        return client.sendmail(
            "анна@приклад.укр", ["підтримка@приклад.укр"], MAIL, ["SMTPUTF8", "BODY=8BITMIME"]
        )

    await talk(listener.ports["smtp"], work)
    [(inbox_id, item)] = office.rows
    assert (inbox_id, item.meta["envelope_from"]) == (3, "анна@приклад.укр")


async def test_one_connection_too_many_is_told_to_come_later(listener: MailListener) -> None:
    held = [await asyncio.open_connection("127.0.0.1", listener.ports["smtp"]) for _ in range(5)]
    for reader, _ in held:
        assert (await reader.readline()).startswith(b"220")
    assert (await dialog(listener.ports["smtp"], b"")).startswith(b"421 4.3.2")
    for _, writer in held:
        writer.close()
        await writer.wait_closed()


async def test_a_broken_connection_stores_nothing(listener: MailListener, office: Office) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.ports["smtp"])
    writer.write(b"EHLO x\r\nMAIL FROM:<a@test.example>\r\nRCPT TO:<support@acme.example>\r\nDATA\r\n" + MAIL)
    await writer.drain()
    while b"354" not in await reader.readline():
        pass
    writer.close()
    await writer.wait_closed()
    await listener.close()
    assert office.rows == []


async def test_a_taken_port_leaves_nothing_bound(office: Office, listener: MailListener) -> None:
    taken = listener.ports["smtp"]
    second = MailListener(
        office.lookup, office.store, FixedClock(), (ListenAddress("lmtp", 0), ListenAddress("smtp", taken))
    )
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    assert second.ports == {}
