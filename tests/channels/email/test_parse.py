"""Raw mail in, envelopes out: encodings, bodies, files, senders, threads, and the loop guard."""

from pathlib import Path
from typing import Any

import pytest

from channels.contract import InboxConfig
from channels.email import EmailChannel, make_reply_token, outbound_message_id
from channels.email.automatic import LOOP_HEADER
from channels.email.items import make_item
from crm_core.envelope import Auto, Envelope, Kind

PAYLOADS = Path(__file__).parent.parent / "payloads" / "email"
NOW = 1_700_000_000_000  # 2023-11-14T22:13:20Z
HEAD = "From: Ann <ann@customer.example>\nTo: support@acme.example\nMessage-ID: <m@customer.example>\n"


def an_inbox(**config: Any) -> InboxConfig:
    base = {"address": "support@acme.example", "aliases": "help@acme.example"}
    return InboxConfig(
        id=1, key="inboxkey", channel="email", name="Support", secret="s", config=base | config
    )


def parse(raw: bytes | str, *, inbox: InboxConfig | None = None, **envelope: Any) -> list[Envelope]:
    data = raw if isinstance(raw, bytes) else raw.encode()
    return EmailChannel().parse(make_item(data, received_at=NOW, **envelope), inbox or an_inbox())


def one(raw: bytes | str, **kwargs: Any) -> Envelope:
    [envelope] = parse(raw, **kwargs)
    return envelope


def payload(name: str) -> bytes:
    return (PAYLOADS / f"{name}.eml").read_bytes()


def test_a_plain_mail() -> None:
    envelope = one(payload("plain"))
    assert envelope.kind is Kind.MESSAGE
    assert envelope.subject == "Question about my tour"
    assert envelope.text == "Hello,\nwhen do we fly?"
    assert envelope.sender.display_name == "Olena Koval"
    [claim] = envelope.sender.identities
    assert (claim.kind, claim.value, claim.verified, claim.evidence) == (
        "email", "olena@customer.example", False, "from_header",
    )  # fmt: skip
    assert envelope.occurred_at == 1_699_956_000_000
    assert envelope.provider_message_id == envelope.conversation_key == "<first@customer.example>"
    assert envelope.recipient == "support@acme.example"
    assert envelope.auto is Auto.HUMAN
    assert envelope.parse_warnings == ()


@pytest.mark.parametrize(
    ("name", "subject", "text"),
    [
        ("koi8_headers", "Возврат", "Верните деньги, пожалуйста."),
        ("split_word", "Запитання про подорож", "x"),
        ("raw_8bit_headers", "Скарга на рейс", "Рейс скасували, поверніть гроші будь ласка."),
        ("wrong_charset", "x", "Добрый день, это проверка кодировки."),
    ],
)
def test_text_is_readable_whatever_the_charset(name: str, subject: str, text: str) -> None:
    envelope = one(payload(name))
    assert (envelope.subject, envelope.text) == (subject, text)


def test_a_name_in_koi8() -> None:
    assert one(payload("koi8_headers")).sender.display_name == "Иванов Пётр"


@pytest.mark.parametrize(
    "codec", ["idna", "punycode", "unicode_escape", "zlib", "rot13", "undefined", "base64"]
)
def test_pythons_odd_codecs_are_no_charsets(codec: str) -> None:
    envelope = one(f"{HEAD}Content-Type: text/plain; charset={codec}\n\nplain words\n")
    assert envelope.text == "plain words"
    assert "charset_unknown" in envelope.parse_warnings


def test_nul_and_surrogates_never_come_out() -> None:
    envelope = one(HEAD.encode() + b"Subject: a\x00b\xed\xa0\x80\n\nx\x00y \xed\xa0\x80\n")
    for text in (envelope.subject or "", envelope.text, envelope.conversation_key):
        assert "\x00" not in text
        text.encode()


def test_files_and_safe_html() -> None:
    envelope = one(payload("attachments"))
    by_name = {file.name: file for file in envelope.attachments}
    assert by_name["Паспорт.pdf"].content == b"%PDF-1.4 test"
    assert by_name["logo.png"].inline_cid == "logo@customer"
    assert by_name["passwd_gnp.exe"].mime == "application/octet-stream"
    assert by_name["winmail.dat"].mime == "application/ms-tnef"
    assert by_name["inner mail.eml"].content is not None
    assert b"inner body" in by_name["inner mail.eml"].content
    assert any(file.mime == "text/calendar" for file in envelope.attachments)
    assert len(envelope.attachments) == 6
    assert envelope.data["calendar_method"] == "REPLY"
    assert "tnef_not_unpacked" in envelope.parse_warnings
    assert envelope.text == "See the passport below."
    html = envelope.html or ""
    assert '<img src="cid:logo@customer">' in html
    assert 'href="https://customer.example/"' in html
    for dangerous in ("script", "alert", "spy.example", "iframe", "onload", "style", "javascript"):
        assert dangerous not in html


def test_html_only_answer_of_gmail() -> None:
    envelope = one(payload("html_only_gmail_reply"))
    assert envelope.text == "Yes, two adults.\n\nOlena"
    assert "How many are you?" in (envelope.quoted_text or "")
    assert envelope.thread.message_ids == ("<message.55@acme.example>", "<first@customer.example>")
    assert envelope.conversation_key == "<first@customer.example>"
    assert envelope.reply_to == "<message.55@acme.example>"


def test_a_stub_text_part_gives_way_to_html() -> None:
    raw = (
        HEAD + 'Content-Type: multipart/alternative; boundary="b"\n\n--b\nContent-Type: text/plain\n\n'
        "Your mail program does not support HTML.\n--b\nContent-Type: text/html\n\n<p>Real <i>words</i></p>"
        '<ul><li>one</li><li>two</li></ul><a href="https://x.example/a">here</a>\n--b--\n'
    )
    assert one(raw).text == "Real words\n\n- one\n- two\nhere <https://x.example/a>"


def test_flowed_lines_are_joined() -> None:
    raw = HEAD + "Content-Type: text/plain; format=flowed\n\nThis is one \nlong line.\nAnd another.\n"
    assert one(raw).text == "This is one long line.\nAnd another."


class TestSender:
    def test_a_contact_form_writes_in_our_name(self) -> None:
        envelope = one(
            "From: support@acme.example\nReply-To: Ann <ann@customer.example>\nTo: support@acme.example\n\nhi"
        )
        assert envelope.sender.identities[0].value == "ann@customer.example"
        assert envelope.auto is Auto.HUMAN

    def test_our_own_mail_without_a_customer(self) -> None:
        assert one("From: Help <help@acme.example>\nTo: support@acme.example\n\nhi").auto is Auto.OWN

    @pytest.mark.parametrize(
        "value",
        [
            "unlisted-recipients:; (no To-header on input)",
            "",
            "nobody",
            '"',
            "<>",
            "@@@",
            "a@",
            "=?utf-8?q?x",
            "((((",
        ],
    )
    def test_unreadable_senders_do_not_stop_a_mail(self, value: str) -> None:
        envelope = one(f"From: {value}\nTo: {value}\nMessage-ID: <x@y>\n\nhello")
        assert envelope.text == "hello"
        assert envelope.sender.identities == ()
        assert "no_sender" in envelope.parse_warnings

    def test_a_mail_without_from_is_of_whom_the_envelope_names(self) -> None:
        (envelope,) = parse("Message-ID: <x@y>\n\nhello", envelope_from="Ann@Customer.example")
        (claim,) = envelope.sender.identities
        assert (claim.value, claim.verified, claim.evidence) == (
            "ann@customer.example",
            False,
            "envelope_sender",
        )
        assert "no_sender" in envelope.parse_warnings

    @pytest.mark.parametrize("envelope_from", ["", "Support+t-1@acme.example", "nonsense"])
    def test_an_envelope_that_names_nobody_else_names_nobody(self, envelope_from: str) -> None:
        (envelope,) = parse("Message-ID: <x@y>\n\nhello", envelope_from=envelope_from)
        assert envelope.sender.identities == ()

    def test_specials_in_an_unquoted_name(self) -> None:
        assert (
            one("From: Ann, Sales: <ann@customer.example>\n\nhi").sender.identities[0].value
            == "ann@customer.example"
        )

    def test_an_international_domain(self) -> None:
        envelope = one("From: a@xn--80aswg.example\n\nhi")
        assert envelope.sender.identities[0].value == "a@сайт.example"


class TestTime:
    @pytest.mark.parametrize(
        "date",
        [
            "Fri, 31 Dec 9999 23:59:59 +0000",
            "Mon, 1 Jan 1990 00:00:00 +0000",
            "yesterday",
            "",
            "Tue, 99 Foo 1",
        ],
    )
    def test_impossible_dates_are_not_believed(self, date: str) -> None:
        assert one(f"{HEAD}Date: {date}\n\nhi").occurred_at == NOW


class TestThread:
    def test_the_envelope_recipient_bears_the_token(self) -> None:
        token = make_reply_token("app", 5)
        envelope = one(HEAD + "\nhi", envelope_to=f"support+t{token}@acme.example")
        assert envelope.thread.reply_token == token
        assert envelope.recipient == f"support+t{token}@acme.example"

    @pytest.mark.parametrize("header", ["Delivered-To", "X-Original-To", "To", "Cc"])
    def test_headers_bear_the_token_too(self, header: str) -> None:
        token = make_reply_token("app", 5)
        envelope = one(f"From: a@b.example\n{header}: Support <SUPPORT+T{token.upper()}@acme.example>\n\nhi")
        assert envelope.thread.reply_token == token

    def test_a_token_in_a_strangers_address_is_not_ours(self) -> None:
        token = make_reply_token("app", 5)
        assert one(f"From: a@b.example\nTo: other+t{token}@acme.example\n\nhi").thread.reply_token is None

    def test_strongest_first(self) -> None:
        envelope = one(HEAD + "In-Reply-To: <c@x>\nReferences: <a@x> <b@x>\n <c@x>\n\nhi")
        assert envelope.thread.message_ids == ("<c@x>", "<b@x>", "<a@x>")
        assert envelope.conversation_key == "<a@x>"

    def test_a_mail_without_any_id_has_a_key(self) -> None:
        first, second = one("From: a@b.example\n\none"), one("From: a@b.example\n\ntwo")
        assert first.conversation_key != second.conversation_key

    def test_an_endless_id_is_bounded_and_still_matches(self) -> None:
        long = "x" * 1000
        asked = one(f"From: a@b.example\nMessage-ID: <{long}@b.example>\n\nhi")
        answer = one(f"From: a@b.example\nMessage-ID: <r@b.example>\nIn-Reply-To: <{long}@b.example>\n\nhi")
        assert len(asked.conversation_key) < 256
        assert answer.thread.message_ids == (asked.conversation_key,)


class TestLoopGuard:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ("", Auto.HUMAN),
            ("Auto-Submitted: no\n", Auto.HUMAN),
            ("X-Auto-Response-Suppress: All\n", Auto.HUMAN),
            ("Auto-Submitted: auto-replied (vacation)\n", Auto.AUTO_REPLY),
            ("Auto-Submitted: auto-generated\n", Auto.AUTO_REPLY),
            ("X-Autoreply: yes\n", Auto.AUTO_REPLY),
            ("X-Autorespond: 1\n", Auto.AUTO_REPLY),
            ("Precedence: auto_reply\n", Auto.AUTO_REPLY),
            ("Precedence: bulk\n", Auto.BULK),
            ("List-Id: <news.example>\n", Auto.BULK),
            ("List-Unsubscribe: <mailto:x@y.example>\n", Auto.BULK),
            ("Return-Path: <>\n", Auto.BOUNCE),
            (f"{LOOP_HEADER}: inboxkey\n", Auto.OWN),
            (f"{LOOP_HEADER}: some-other-desk\n", Auto.AUTO_REPLY),
            ("Return-Path: <>\nAuto-Submitted: auto-replied\n", Auto.AUTO_REPLY),
        ],
    )
    def test_headers(self, headers: str, expected: Auto) -> None:
        assert one(HEAD + headers + "\nhi").auto is expected

    @pytest.mark.parametrize(
        ("sender", "expected"),
        [
            ("noreply@shop.example", Auto.BULK),
            ("no-reply+17@shop.example", Auto.BULK),
            ("do_not_reply@shop.example", Auto.BULK),
            ("MAILER-DAEMON@mx.example", Auto.BOUNCE),
            ("norelius@people.example", Auto.HUMAN),
            ("notredame@people.example", Auto.HUMAN),
        ],
    )
    def test_senders(self, sender: str, expected: Auto) -> None:
        assert one(f"From: {sender}\n\nhi").auto is expected

    def test_our_message_id_comes_back(self) -> None:
        own = outbound_message_id("77", "acme.example")
        assert one(f"From: x@list.example\nMessage-ID: {own}\n\nhi").auto is Auto.OWN

    def test_a_colleague_of_the_same_domain_is_a_person(self) -> None:
        assert one("From: boss@acme.example\nMessage-ID: <A1B2@acme.example>\n\nhi").auto is Auto.HUMAN

    def test_exchange_asks_for_no_acknowledgement(self) -> None:
        assert (
            one(HEAD + "X-Auto-Response-Suppress: DR, OOF, AutoReply\n\nhi").data["withhold_acknowledgement"]
            is True
        )

    def test_the_envelope_knows_better_than_return_path(self) -> None:
        assert one(HEAD + "\nhi", envelope_from="").auto is Auto.BOUNCE
        assert one(HEAD + "Return-Path: <>\n\nhi", envelope_from="ann@customer.example").auto is Auto.HUMAN


class TestBounces:
    def test_a_report_about_our_message(self) -> None:
        failed, delayed = parse(payload("dsn_failed"))
        assert failed.kind is Kind.DELIVERY_STATUS
        assert failed.auto is Auto.BOUNCE
        assert failed.data == {
            "state": "failed", "message_id": "<message.77@acme.example>", "recipient": "gone@customer.example",
            "status": "5.1.1", "diagnostic": "smtp; 550 5.1.1 user unknown",
        }  # fmt: skip
        assert failed.conversation_key == "<root@customer.example>"
        assert (delayed.data["state"], delayed.data["status"]) == ("delayed", "4.2.2")
        assert failed.dedupe_key != delayed.dedupe_key

    @pytest.mark.parametrize(
        "name", ["text/rfc822-headers", "message/rfc822-headers", "message/global-headers"]
    )
    def test_a_report_may_name_the_part_of_the_headers_as_it_likes(self, name: str) -> None:
        raw = payload("dsn_failed").decode().replace("text/rfc822-headers", name)
        assert name in raw
        failed, _ = parse(raw)
        assert (failed.kind, failed.data["message_id"]) == (
            Kind.DELIVERY_STATUS,
            "<message.77@acme.example>",
        )

    def test_a_report_about_a_forged_message_is_only_shown(self) -> None:
        envelope = one(payload("dsn_not_ours"))
        assert (envelope.kind, envelope.auto) == (Kind.MESSAGE, Auto.BOUNCE)
        assert "Spam sent in your name" in envelope.text

    def test_a_bounce_without_a_report(self) -> None:
        envelope = one(payload("exim_bounce"))
        assert envelope.kind is Kind.DELIVERY_STATUS
        assert envelope.data["message_id"] == "<message.78@acme.example>"
        assert envelope.data["recipient"] == "gone@customer.example"
        assert (envelope.data["state"], envelope.data["status"]) == ("failed", "5.1.1")

    def test_a_person_who_quotes_our_id_does_not_bounce_it(self) -> None:
        envelope = one(HEAD + "\nYour <message.78@acme.example> failed 5.1.1\n")
        assert (envelope.kind, envelope.auto) == (Kind.MESSAGE, Auto.HUMAN)


class TestAuthentication:
    RESULTS = (
        "Authentication-Results: mx.acme.example; spf=pass (good) x=y; dkim=fail; dkim=pass; dmarc=pass\n"
    )

    def test_only_the_configured_server_is_believed(self) -> None:
        raw = self.RESULTS + HEAD + "\nhi"
        assert one(raw).auth == {}
        assert one(raw, inbox=an_inbox(authserv_id="mx.acme.example")).auth == {
            "spf": "pass", "dkim": "pass", "dmarc": "pass",
        }  # fmt: skip
        assert one(raw, inbox=an_inbox(authserv_id="mx.other.example")).auth == {}

    def test_only_the_topmost_header_counts(self) -> None:
        forged = "Authentication-Results: evil.example; spf=fail\n" + self.RESULTS
        assert one(forged + HEAD + "\nhi", inbox=an_inbox(authserv_id="mx.acme.example")).auth == {}
