"""Whatever comes, parsing gives envelopes that can be stored and shown, in bounded time."""

import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.contract import InboxConfig, Malformed, RawRequest, SignatureRefused
from channels.email import EmailChannel
from channels.email.body import MAX_PARTS
from channels.email.items import make_item
from crm_core.clock import HOUR
from crm_core.envelope import Envelope

PAYLOADS = sorted((Path(__file__).parent.parent / "payloads" / "email").glob("*.eml"))
INBOX = InboxConfig(
    id=1, key="k", channel="email", name="S", secret="s",
    config={"address": "support@acme.example", "authserv_id": "mx"},
)  # fmt: skip
HEAD = b"From: a@customer.example\nTo: support@acme.example\nSubject: x\nMessage-ID: <1@customer.example>\n"


def parse(raw: bytes) -> list[Envelope]:
    item = make_item(
        raw, received_at=1_700_000_000_000, envelope_from="x@y.example", envelope_to="support@acme.example"
    )
    envelopes = EmailChannel().parse(item, INBOX)
    assert envelopes
    for envelope in envelopes:
        # What a database and a socket will do to it.
        text = json.dumps(asdict(envelope), default=lambda value: f"{len(value)} bytes", ensure_ascii=False)
        text.encode()
        assert "\\u0000" not in text
        assert len(envelope.conversation_key) < 300
        assert len(envelope.dedupe_key) < 100
    return envelopes


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_mutated_mails(data: st.DataObject) -> None:
    raw = bytearray(data.draw(st.sampled_from(PAYLOADS)).read_bytes())
    chance = random.Random(data.draw(st.integers(min_value=0, max_value=2**32)))
    for _ in range(data.draw(st.integers(min_value=1, max_value=30))):
        at = chance.randrange(len(raw))
        match chance.randrange(4):
            case 0:
                raw[at] = chance.randrange(256)
            case 1:
                del raw[at : at + chance.randrange(1, 60)]
            case 2:
                raw[at:at] = chance.choice(
                    [b"\r\n", b"\x00", b"=?utf-8?b?/////?=", b"\xff\xfe", b";", b'"', b"--outer--", b"%FF"]
                )
            case _:
                end = chance.randrange(at, min(len(raw), at + 200) + 1)
                raw[at:at] = raw[at:end]
        raw = raw or bytearray(b"x")
    parse(bytes(raw))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(raw: bytes) -> None:
    parse(raw)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["From", "To", "Subject", "Date", "References", "Content-Type", "Content-Disposition",
                                               "Content-Transfer-Encoding", "Authentication-Results", "Message-ID"]))  # fmt: skip
def test_any_header(value: str, name: str) -> None:
    parse(f"{name}: {value}\n".encode("utf-8", "replace") + HEAD + b"\nhello\n")


def test_the_standard_librarys_own_corpus() -> None:
    corpus = list(Path(json.__file__).parent.parent.glob("test/test_email/data/*.txt"))
    if not corpus:
        pytest.skip("PYTHON'S OWN TEST MAILS ARE MISSING: apt-get install libpython3.11-testsuite")
    for path in corpus:
        for envelope in parse(path.read_bytes()):
            assert not {"mail_broken", "body_broken", "structure_broken", "part_broken"} & set(
                envelope.parse_warnings
            )


def test_multiparts_nested_for_ever() -> None:
    raw = (
        HEAD
        + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3000))
        + b"\nend\n"
    )
    assert set(parse(raw)[0].parse_warnings) & {"structure_broken", "too_deep", "structure_too_heavy"}


def test_messages_nested_for_ever() -> None:
    raw = HEAD + b"Content-Type: message/rfc822\n\n" * 5000 + b"end\n"
    assert set(parse(raw)[0].parse_warnings) & {"structure_broken", "too_deep", "part_broken"}


def test_deep_but_readable() -> None:
    raw = (
        HEAD
        + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(30))
        + b"\nend\n"
    )
    assert "too_deep" in parse(raw)[0].parse_warnings


def test_too_many_parts() -> None:
    raw = (
        HEAD
        + b"Content-Type: multipart/mixed; boundary=b\n\n"
        + b"--b\nContent-Disposition: attachment\n\nx\n" * 800
    )
    [envelope] = parse(raw)
    assert "too_many_parts" in envelope.parse_warnings
    assert len(envelope.attachments) == MAX_PARTS - 1


def test_millions_of_empty_lines_with_many_boundaries() -> None:
    raw = HEAD + b"X-A: boundary boundary boundary\n" * 30 + b"\n" * 1_000_000
    assert "structure_too_heavy" in parse(raw)[0].parse_warnings


@pytest.mark.parametrize(
    "html",
    [b"<div>" * 150_000, b"<b><i>" * 50_000 + b"x", b"<!--" * 200_000, b"<![CDATA[" * 100_000, b"<a href='" * 100_000,
     b"&" * 1_000_000, b"<" * 1_000_000, b"<table><tr><td>" * 400 + b"deep",
     b"<p " + b" ".join(b"a%d" % n for n in range(200_000)) + b">", b"<p/" + b"/".join(b"a%d" % n for n in range(200_000))],
)  # fmt: skip
def test_html_made_to_be_slow(html: bytes) -> None:
    parse(HEAD + b"Content-Type: text/html\n\n<p>seen</p>" + html)


@pytest.mark.parametrize(
    "text",
    ["On " * 200_000, "a@b.example " * 50_000 + ":", "> " * 300_000, ("On 1.1.2020 1:00 a@b.example\n" * 20_000),
     "##- " * 100_000, "From: x\n" * 30_000, "=?utf-8?q?" * 50_000,
     # Runs of blanks that two parts of a pattern could share, and long words that could begin anywhere.
     "hi\n" + " " * 300_000 + "x", "hi\n" + "\t" * 300_000 + "x", "hi" + "\n" * 300_000 + "x",
     ("a" * 76 + "\n") * 20_000],
)  # fmt: skip
def test_text_made_to_be_slow(text: str) -> None:
    parse(HEAD + b"\n" + text.encode())
    parse(b"Subject: " + text.replace("\n", " ").encode() + b"\n" + HEAD + b"\nhi")


class TestHook:
    """The signed post of a raw mail."""

    RAW = HEAD + b"\nhello\n"

    def request(self, **fields: object) -> RawRequest:
        base: dict[str, object] = {
            "method": "POST", "url": "https://x.example/hooks/k", "body": self.RAW, "content_type": "message/rfc822",
            "headers": {"x-signature": "tTTNZKs9QmYkzG4v0z2dFtZAeQbMhKJ4w1YbqDkC9cM", "x-envelope-from": ""}, "received_at": 5,
        }  # fmt: skip
        return RawRequest(**(base | fields))  # type: ignore[arg-type]

    def test_a_right_signature_passes(self) -> None:
        import base64
        import hashlib
        import hmac

        digest = hmac.new(b"s", self.RAW, hashlib.sha256).digest()
        right = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        assert EmailChannel().verify(self.request(headers={"x-signature": right}), INBOX) is None

    @pytest.mark.parametrize(
        "headers", [{}, {"x-signature": ""}, {"x-signature": "подпись"}, {"x-signature": "AAAA"}]
    )
    def test_a_wrong_one_does_not(self, headers: dict[str, str]) -> None:
        with pytest.raises(SignatureRefused):
            EmailChannel().verify(self.request(headers=headers), INBOX)

    def test_one_mail_is_one_item(self) -> None:
        [item] = EmailChannel().split(self.request(), INBOX)
        assert item.body == self.RAW
        assert item.meta == {"envelope_from": ""}
        assert item.received_at == 5

    @pytest.mark.parametrize(
        "fields", [{"content_type": "application/json"}, {"body": b"  \n"}, {"body": b"x" * 26_300_000}]
    )
    def test_what_is_no_mail(self, fields: dict[str, object]) -> None:
        with pytest.raises(Malformed):
            EmailChannel().split(self.request(**fields), INBOX)


class TestKeys:
    def test_a_second_delivery_of_a_mail_has_the_same_key(self) -> None:
        first = make_item(b"Received: by a; 1\r\n" + HEAD + b"\r\nhello\r\n", received_at=1)
        again = make_item(b"Received: by b; 2\nReturn-Path: <x@y>\n" + HEAD + b"\nhello\n", received_at=2)
        assert first.dedupe_key == again.dedupe_key

    def test_another_text_or_id_has_another_key(self) -> None:
        keys = {make_item(HEAD + body, received_at=1).dedupe_key for body in (b"\na", b"\nb")}
        keys.add(make_item(HEAD.replace(b"<1@", b"<2@") + b"\na", received_at=1).dedupe_key)
        assert len(keys) == 3

    def test_texts_without_any_header_are_told_apart(self) -> None:
        keys = {make_item(raw, received_at=1).dedupe_key for raw in (b"", b"water in the cellar", b"fire")}
        assert len(keys) == 3

    def test_a_machine_that_names_neither_id_nor_date_may_say_the_same_again_later(self) -> None:
        raw = b"From: probe@plant.example\nSubject: disk full\n\nat 99 %"

        def key(received_at: int, envelope_from: str | None = "probe@plant.example") -> str:
            return make_item(raw, received_at=received_at, envelope_from=envelope_from).dedupe_key

        assert key(HOUR) == key(HOUR + 1), "a repeated hand-over"
        assert key(HOUR) != key(2 * HOUR)
        dated = b"Date: Sun, 22 Nov 2026 09:00:00 +0000\n" + raw
        assert len({make_item(dated, received_at=n * HOUR).dedupe_key for n in (1, 2)}) == 1

    def test_a_mailbox_read_again_gives_the_same_keys(self) -> None:
        raw = b"From: probe@plant.example\nSubject: disk full\n\nat 99 %"
        first, second = (b"Received: by mx; %d\n" % n + raw for n in (1, 2))
        keys = [make_item(each, received_at=n * HOUR).dedupe_key for n in (1, 2) for each in (first, second)]
        assert keys[:2] == keys[2:]
        assert keys[0] != keys[1]

    def test_without_from_the_envelope_tells_writers_apart(self) -> None:
        keys = {
            make_item(b"Subject: hi\n\nhello", received_at=1, envelope_from=each).dedupe_key
            for each in ("a@x.example", "b@x.example")
        }
        assert len(keys) == 2

    def test_a_thread_has_one_lane(self) -> None:
        root = make_item(b"Message-ID: <r@x>\n\nq", received_at=1)
        answers = [
            make_item(b"Message-ID: <a@x>\nIn-Reply-To: <r@x>\n\na", received_at=1),
            make_item(b"Message-ID: <b@x>\nReferences: <r@x> <a@x>\nIn-Reply-To: <a@x>\n\nb", received_at=1),
        ]
        assert {item.lane for item in answers} == {root.lane}
        assert make_item(b"Message-ID: <other@x>\n\nq", received_at=1).lane != root.lane
