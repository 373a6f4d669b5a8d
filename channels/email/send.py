"""Handing one mail to the configured SMTP server, and what each failure means for the core.

When nobody knows: a connection that breaks before the body was sent, and any refusal, leave the mail with
us, so it is Transient (or permanent) and may be tried again. A connection that breaks or falls silent after
the server said "354" may have broken on either side of the final dot. The Message-ID is fixed by the ref, so
a resend is the same mail and many mailboxes drop the copy; but relays do not, and a customer could read the
answer twice. So that one case is OutcomeUnknown: the core does not resend by itself and the agent resends
with one click (channels.md §0.4, §2.8).
"""

import re
import ssl

import aiosmtplib

from channels.contract import (
    AuthFailed,
    ChannelError,
    ContentRejected,
    InboxConfig,
    OutcomeUnknown,
    RecipientGone,
    Transient,
)
from channels.email.account import Server, message_id_domain, smtp_server
from channels.email.compose import Mail

TIMEOUT_S = 60.0  # for one command; RFC 5321 section 4.5.3.2 allows servers minutes, workers need not wait
DATA_TIMEOUT_S = 300.0
_LINE_DOT = re.compile(rb"(?m)^\.")
_ENHANCED = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
#: enhanced codes (RFC 3463) that say the mailbox is not there or takes nothing any more
_GONE = frozenset({(1, 1), (1, 2), (1, 3), (1, 6), (1, 10), (2, 1)})
_GONE_WORDS = ("user unknown", "unknown user", "no such user", "does not exist", "mailbox unavailable",
               "mailbox not found", "invalid recipient", "recipient rejected", "no mailbox")  # fmt: skip


def tls_context(server: Server) -> ssl.SSLContext:
    """Certificates are always checked; `tls_ca` is a private authority. Raises ssl.SSLError if no PEM."""
    return ssl.create_default_context(cadata=server.ca)


async def open_smtp(inbox: InboxConfig) -> aiosmtplib.SMTP:
    """A connection that is logged in where a user is configured. Raises ChannelErrors."""
    server = smtp_server(inbox)
    try:
        client = aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.tls == "tls",
            start_tls=server.tls == "starttls",
            tls_context=None if server.tls == "none" else tls_context(server),
            timeout=TIMEOUT_S,
            local_hostname=message_id_domain(inbox),
        )
        await client.connect()
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        raise _connecting(error) from error
    if server.user:
        try:
            await client.login(server.user, server.password)
        except aiosmtplib.SMTPAuthenticationError as error:
            client.close()
            if error.code < 500:
                raise Transient(_said(error)) from error
            raise AuthFailed(_said(error)) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            client.close()
            if isinstance(error, aiosmtplib.SMTPNotSupported):
                raise AuthFailed("the mail server offers no login; wrong port or TLS setting?") from error
            raise _connecting(error) from error
    return client


async def deliver(mail: Mail, inbox: InboxConfig) -> None:
    """Hand the mail over. Returns when the server has taken responsibility. Raises ChannelErrors."""
    client = await open_smtp(inbox)
    try:
        await _transaction(client, mail)
    finally:
        await _leave(client)


async def _transaction(client: aiosmtplib.SMTP, mail: Mail) -> None:
    options, encoding = [], "ascii"
    try:
        await client.ehlo()
        if mail.needs_utf8:
            if not client.supports_extension("smtputf8"):
                raise ContentRejected(
                    "the mail server takes no addresses with international letters (SMTPUTF8)"
                )
            options, encoding = ["SMTPUTF8", "BODY=8BITMIME"], "utf-8"
        if client.supports_extension("size"):
            options.append(f"SIZE={len(mail.data)}")
        await client.mail(mail.sender, options=options, encoding=encoding)
        await client.rcpt(mail.recipient, encoding=encoding)
        start = await client.execute_command(b"DATA")
        if start.code != aiosmtplib.SMTPStatus.start_input:
            raise aiosmtplib.SMTPDataError(start.code, start.message)
    except aiosmtplib.SMTPResponseException as error:
        raise refusal(error) from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise Transient(f"the mail server went away: {_name(error)}") from error
    except ValueError as error:
        raise ContentRejected("an address cannot be put on the wire") from error
    await _body(client, mail)


async def _body(client: aiosmtplib.SMTP, mail: Mail) -> None:
    """After "354". Done by hand: `SMTP.data` does not tell a break before this point from one after it."""
    protocol = client.protocol
    if protocol is None:
        raise Transient("the mail server went away before the mail was sent")
    try:
        protocol.write(
            _LINE_DOT.sub(b"..", mail.data) + (b"" if mail.data.endswith(b"\r\n") else b"\r\n") + b".\r\n"
        )
        answer = await protocol.read_response(timeout=DATA_TIMEOUT_S)
    except aiosmtplib.SMTPResponseException as error:  # an answer nobody can read
        raise OutcomeUnknown(f"no clear answer after the mail was sent: {_said(error)}") from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise OutcomeUnknown(f"no answer after the mail was sent: {_name(error)}") from error
    if answer.code != aiosmtplib.SMTPStatus.completed:
        raise refusal(aiosmtplib.SMTPDataError(answer.code, answer.message))


def refusal(error: aiosmtplib.SMTPResponseException) -> ChannelError:
    """What a server's "no" means, by its basic and enhanced code (RFC 5321, RFC 3463)."""
    said, words = _said(error), error.message.lower()
    match = _ENHANCED.search(error.message)
    enhanced = (int(match[2]), int(match[3])) if match else None
    if error.code < 500:
        return Transient(said)
    if error.code in (530, 534, 535, 538) or "relay" in words:
        return AuthFailed(said)
    if isinstance(error, aiosmtplib.SMTPSenderRefused):
        # The server will not let us write as this address: an admin's matter, unless it is the size it minds.
        return ContentRejected(said) if error.code == 552 or enhanced == (3, 4) else AuthFailed(said)
    if enhanced in _GONE:
        return RecipientGone(said)
    if enhanced is None and error.code in (550, 551, 553) and any(phrase in words for phrase in _GONE_WORDS):
        return RecipientGone(said)
    return ContentRejected(said)


def _connecting(error: Exception) -> ChannelError:
    if isinstance(error, ssl.SSLCertVerificationError) or isinstance(
        error.__cause__, ssl.SSLCertVerificationError
    ):
        return AuthFailed("the mail server's certificate is not trusted")
    return Transient(f"cannot reach the mail server: {_name(error)}")


async def _leave(client: aiosmtplib.SMTP) -> None:
    """QUIT if it is heard; the outcome is known already, so nothing may be raised here."""
    try:
        if client.is_connected:
            await client.quit(timeout=5)
    except (TimeoutError, aiosmtplib.SMTPException, OSError):
        pass
    finally:
        client.close()


def _said(error: aiosmtplib.SMTPResponseException) -> str:
    text = " ".join(error.message.encode("utf-8", "replace").decode().split())
    return f"the mail server said {error.code} {text}"[:500]


def _name(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
