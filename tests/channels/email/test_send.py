"""Composing and sending, through a real SMTP server that can misbehave."""

import asyncio
import dataclasses
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest

from channels.contract import (
    AuthFailed,
    ChannelContext,
    ContentRejected,
    InboxConfig,
    NotConfigured,
    OutcomeUnknown,
    RecipientGone,
    Transient,
)
from channels.email import EmailChannel, make_reply_token, send
from channels.email.items import make_item
from channels.email.languages import words_for
from crm_core.envelope import Auto, Outbound, OutboundFile
from tests.fakes.self_signed import server_context, write_certificate
from tests.fakes.smtp_relay import RelayedMail, SmtpRelay


class FixedClock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


def an_inbox(port: int, **config: Any) -> InboxConfig:
    base = {
        "address": "support@acme.example",
        "from_name": "Acme Support",
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
    }
    return InboxConfig(id=1, key="inboxkey", channel="email", name="Inbox", secret="s", config=base | config)


def an_outbound(**fields: Any) -> Outbound:
    base = Outbound(
        ref="77", message_id=77, conversation_key="<root@x>", to="ann@customer.example", text="Hello Ann"
    )
    return dataclasses.replace(base, **fields)


def a_file(name: str, mime: str, content: bytes) -> OutboundFile:
    return OutboundFile(name=name, mime=mime, content=content)


async def deliver(outbound: Outbound, inbox: InboxConfig) -> tuple[str, ...]:
    async with aiohttp.ClientSession() as http:
        result = await EmailChannel().send(outbound, inbox, ChannelContext(http=http, clock=FixedClock()))
    return result.external_ids


async def sent(outbound: Outbound, **config: Any) -> tuple[RelayedMail, EmailMessage]:
    async with SmtpRelay() as relay:
        await deliver(outbound, an_inbox(relay.port, **config))
        [mail] = relay.mails
    return mail, cast("EmailMessage", message_from_bytes(mail.data, policy=default))


def part_text(message: EmailMessage, subtype: str) -> str:
    part = message.get_body((subtype,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


async def test_an_agents_answer() -> None:
    token = make_reply_token("app", 5)
    mail, message = await sent(
        an_outbound(
            subject="Re: Питання", author_name="Олена", html="<p>Hello <b>Ann</b></p>", reply_token=token, language="uk",
            reply_to="<q2@customer.example>", references=("<root@customer.example>", "<q2@customer.example>"),
            files=(a_file("Квиток.pdf", "application/pdf", b"%PDF"), a_file("x/../y", "nonsense", b"1")),
        )
    )  # fmt: skip
    assert (mail.sender, mail.recipients) == ("support@acme.example", ("ann@customer.example",))
    assert message["From"] == "Олена через Acme Support <support@acme.example>"
    assert message["To"] == "<ann@customer.example>" or message["To"] == "ann@customer.example"
    assert message["Reply-To"].addresses[0].addr_spec == f"support+t{token}@acme.example"
    assert message["Subject"] == "Re: Питання"
    assert message["Message-ID"] == "<message.77@acme.example>"
    assert message["In-Reply-To"] == "<q2@customer.example>"
    assert message["References"].split() == ["<root@customer.example>", "<q2@customer.example>"]
    assert message["Date"].datetime.timestamp() == 1_700_000_000
    marker = words_for("uk").reply_above
    assert part_text(message, "plain").split("\n")[0] == marker
    assert "Hello Ann" in part_text(message, "plain")
    assert marker in part_text(message, "html")
    assert [(part.get_filename(), part.get_content_type()) for part in message.iter_attachments()] == [
        ("Квиток.pdf", "application/pdf"), ("y", "application/octet-stream"),
    ]  # fmt: skip
    for name in ("Auto-Submitted", "Precedence", "X-Auto-Response-Suppress", "X-Switchboard-Loop"):
        assert message[name] is None


async def test_a_retry_is_the_same_mail() -> None:
    async with SmtpRelay() as relay:
        first = await deliver(an_outbound(), an_inbox(relay.port))
        second = await deliver(an_outbound(), an_inbox(relay.port))
    assert first == second == ("<message.77@acme.example>",)


async def test_automatic_mail_makes_no_loop() -> None:
    mail, message = await sent(an_outbound(automatic=True, references=("<root@x>",)))
    assert mail.sender == ""
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["Precedence"] == "bulk"
    assert message["X-Switchboard-Loop"] == "inboxkey"
    item = make_item(mail.data, received_at=1_700_000_000_000)
    [back] = EmailChannel().parse(item, an_inbox(25))
    assert back.auto is Auto.OWN


async def test_what_we_quote_is_cut_from_the_answer() -> None:
    _, message = await sent(an_outbound(language="ru"))
    quoted = "\n".join(f"> {line}" for line in part_text(message, "plain").split("\n"))
    answer = f"From: ann@customer.example\n\nThanks\n\nSupport wrote somehow\n{quoted}\n".encode()
    [envelope] = EmailChannel().parse(make_item(answer, received_at=1), an_inbox(25))
    assert "Hello Ann" not in envelope.text


@pytest.mark.parametrize(
    ("subject", "answers", "written"),
    [
        ("Питання", True, "Re: Питання"),
        ("RE: Питання", True, "RE: Питання"),
        ("Re[2]: Питання", True, "Re[2]: Питання"),
        ("Відп: Питання", True, "Відп: Питання"),
        ("Ремонт", True, "Re: Ремонт"),
        ("", True, ""),
        ("Питання", False, "Питання"),
    ],
)
async def test_an_answer_is_marked_as_one_once(subject: str, answers: bool, written: str) -> None:
    _, message = await sent(
        an_outbound(subject=subject, reply_to="<q@customer.example>" if answers else None)
    )
    assert message["Subject"] == written


@pytest.mark.parametrize(
    "evil", ["x\r\nBcc: all@victims.example", "x\nBcc: y@z.example\n\nbody", "x\u2028Bcc: a@b", "\r\n\r\n"]
)
async def test_nothing_gets_into_the_headers(evil: str) -> None:
    mail, message = await sent(
        an_outbound(
            subject=evil, author_name=evil, reply_to=evil, references=(evil, f"<a@b>{evil}"), ref=evil
        ),
        from_name=evil,
    )
    assert message["Bcc"] is None
    assert mail.recipients == ("ann@customer.example",)
    assert "Hello Ann" in message.get_content()


@pytest.mark.parametrize(
    "to", ["a@b.example\r\nRCPT TO:<x@y>", "no-address", "", "a b@c.example", "<a@b.example>, c@d.example"]
)
async def test_a_recipient_that_is_no_address_is_refused(to: str) -> None:
    async with SmtpRelay() as relay:
        with pytest.raises(ContentRejected):
            await deliver(an_outbound(to=to), an_inbox(relay.port))
        assert relay.mails == []


async def test_many_long_references_keep_the_root_and_the_last() -> None:
    references = tuple(f"<{number}.{'x' * 120}@customer.example>" for number in range(60))
    _, message = await sent(an_outbound(references=references))
    kept = message["References"].split()
    assert len(kept) == 20
    assert kept[0] == references[0]
    assert kept[1:] == list(references[-19:])


async def test_texts_of_every_shape_arrive_whole() -> None:
    text = "Line with dot\n.\n..two\nFrom here\n" + "довгий " * 2000 + "\nкінець \U0001f600 \x00\ud800"
    _, message = await sent(
        an_outbound(text=text, subject="Дуже " * 100, author_name='Ann "A" O\'Neil, Dr.; <x@y>')
    )
    plain = part_text(message, "plain")
    assert "\n.\n..two\nFrom here\n" in plain
    assert plain.rstrip().endswith("кінець \U0001f600 \ufffd")
    assert message["Subject"] == ("Дуже " * 100).strip()[:500].strip()
    assert message["From"].addresses[0].addr_spec == "support@acme.example"
    assert message["From"].addresses[0].display_name == 'Ann "A" O\'Neil, Dr.; <x@y> via Acme Support'


async def test_an_international_domain_travels_in_ascii() -> None:
    mail, _ = await sent(an_outbound(to="ann@приклад.укр"), address="support@приклад.укр")
    assert mail.recipients == ("ann@xn--80aikifvh.xn--j1amh",)
    assert mail.sender == "support@xn--80aikifvh.xn--j1amh"
    assert b"Message-ID: <message.77@xn--80aikifvh.xn--j1amh>" in mail.data


async def test_an_international_local_part_needs_a_server_that_can() -> None:
    mail, _ = await sent(an_outbound(to="анна@customer.example"))
    assert mail.recipients == ("анна@customer.example",)
    assert "SMTPUTF8" in mail.options
    async with SmtpRelay(smtputf8=False) as relay:
        with pytest.raises(ContentRejected, match="SMTPUTF8"):
            await deliver(an_outbound(to="анна@customer.example"), an_inbox(relay.port))


@pytest.mark.parametrize(
    ("orders", "error"),
    [
        ({"answer_rcpt": "550 5.1.1 User unknown"}, RecipientGone),
        ({"answer_rcpt": "550 No such user here"}, RecipientGone),
        ({"answer_rcpt": "550 5.7.1 Blocked by policy"}, ContentRejected),
        ({"answer_rcpt": "554 5.7.1 Relay access denied"}, AuthFailed),
        ({"answer_rcpt": "451 4.7.1 Greylisted"}, Transient),
        ({"answer_rcpt": "452 4.2.2 Mailbox full"}, Transient),
        ({"answer_mail": "553 5.7.1 Sender address not owned by user"}, AuthFailed),
        ({"answer_mail": "552 5.3.4 Message too big"}, ContentRejected),
        ({"answer_mail": "421 4.3.2 Shutting down"}, Transient),
        ({"answer_data": "554 5.6.0 Spam"}, ContentRejected),
        ({"answer_data": "550 5.1.1 User unknown"}, RecipientGone),
        ({"answer_data": "451 4.3.0 Try later"}, Transient),
        ({"drop_at": "connect"}, Transient),
        ({"drop_at": "rcpt"}, Transient),
        ({"drop_at": "data"}, Transient),
        ({"drop_at": "dot"}, OutcomeUnknown),
        ({"drop_at": "dot", "keep_dropped": True}, OutcomeUnknown),
    ],
)
async def test_what_each_failure_means(orders: dict[str, Any], error: type[Exception]) -> None:
    async with SmtpRelay() as relay:
        for name, value in orders.items():
            setattr(relay.orders, name, value)
        with pytest.raises(error) as caught:
            await deliver(an_outbound(), an_inbox(relay.port))
    assert type(caught.value) is error


async def test_silence_after_the_final_dot_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(send, "DATA_TIMEOUT_S", 0.05)
    release = asyncio.Event()

    async def silent(server: Any, session: Any, envelope: Any) -> str:
        await release.wait()
        return "250 OK"

    async with SmtpRelay() as relay:
        monkeypatch.setattr(SmtpRelay, "handle_DATA", lambda self, *args: silent(*args))
        with pytest.raises(OutcomeUnknown):
            await deliver(an_outbound(), an_inbox(relay.port))
        release.set()


async def test_nobody_listens() -> None:
    async with SmtpRelay() as relay:
        port = relay.port
    with pytest.raises(Transient):
        await deliver(an_outbound(), an_inbox(port))


async def test_no_server_configured() -> None:
    with pytest.raises(NotConfigured):
        await deliver(an_outbound(), an_inbox(25, smtp_host=""))


@pytest.mark.parametrize(
    "broken", [{"smtp_port": "x"}, {"smtp_port": 99999}, {"smtp_tls": "maybe"}, {"address": "nobody"}]
)
async def test_nonsense_in_the_configuration(broken: dict[str, Any]) -> None:
    with pytest.raises(NotConfigured):
        await deliver(an_outbound(), an_inbox(2525, **broken))


async def test_login() -> None:
    async with SmtpRelay(user="box", password="right") as relay:
        config = {"smtp_tls": "none", "smtp_user": "box", "smtp_password": "right"}
        await deliver(an_outbound(), an_inbox(relay.port, **config))
        assert relay.mails[0].login == "box"
        with pytest.raises(AuthFailed):
            await deliver(an_outbound(), an_inbox(relay.port, **config | {"smtp_password": "wrong"}))
        with pytest.raises(AuthFailed):
            await deliver(an_outbound(), an_inbox(relay.port))


async def test_a_password_never_leaves_in_clear_by_default() -> None:
    async with SmtpRelay(user="box", password="right") as relay:  # offers no STARTTLS
        with pytest.raises(Transient):
            await deliver(an_outbound(), an_inbox(relay.port, smtp_user="box", smtp_password="right"))
        assert relay.mails == []


@pytest.mark.parametrize("mode", ["starttls", "tls"])
async def test_tls_with_a_private_authority_and_without(tmp_path: Path, mode: str) -> None:
    pem = write_certificate(tmp_path / "tls.pem")
    context = server_context(tmp_path / "tls.pem")
    async with SmtpRelay(tls=context, implicit_tls=mode == "tls") as relay:
        await deliver(an_outbound(), an_inbox(relay.port, smtp_tls=mode, tls_ca=pem))
        assert len(relay.mails) == 1
        with pytest.raises(AuthFailed, match="not trusted"):
            await deliver(an_outbound(), an_inbox(relay.port, smtp_tls=mode))


async def test_too_large_is_refused_before_it_travels() -> None:
    async with SmtpRelay() as relay:
        with pytest.raises(ContentRejected):
            await deliver(an_outbound(files=(a_file("big", "a/b", b"x" * 20_000_000),)), an_inbox(relay.port))
        assert relay.connections == 0


async def test_health() -> None:
    async with aiohttp.ClientSession() as http:
        ctx = ChannelContext(http=http, clock=FixedClock())
        async with SmtpRelay() as relay:
            inbox = an_inbox(relay.port)
            assert await EmailChannel().health(inbox, ctx) == {
                "ok": True, "detail": "", "smtp": "ok", "imap": "not configured",
            }  # fmt: skip
        down = await EmailChannel().health(inbox, ctx)
    assert down["ok"] is False
    assert "cannot reach" in down["detail"]
