"""The messages that are sent: Telegram updates and 40 kB mails, each with a marker found again on the feed.

Everything is made before the clock runs; what is sent is bytes.
"""

import base64
import json
import random
from dataclasses import dataclass

from bench.place import MAIL_ADDRESS

#: all numbers that must be unique start here and have the same number of digits
FIRST = 100_000_000
MARK = "bnch"
_SENTENCE = (
    "добрий день підкажіть будь ласка скільки коштує тур до Карпат на двох у травні з Києва та чи є ще "
    "вільні місця дякую чекаю на відповідь паспорт віза готель сніданок трансфер дитина знижка"
)
_WORDS = _SENTENCE.split()


@dataclass(frozen=True, slots=True)
class Payload:
    """`number` is unique in a run; `marker` stands in the message's text."""

    number: int
    marker: str
    body: bytes


def marker_of(number: int) -> str:
    return f"{MARK}{number}{MARK}"


def telegram(number: int, person: int) -> Payload:
    """A text message of the person in his private chat. `person` counts from 0."""
    who = {
        "id": FIRST * 10 + person,
        "is_bot": False,
        "first_name": f"Олена {person}",
        "language_code": "uk",
        "username": f"olena{person}",
    }
    chat = {"id": who["id"], "type": "private", "first_name": who["first_name"], "username": who["username"]}
    words = random.Random(number).choices(_WORDS, k=18)
    update = {
        "update_id": FIRST + number,
        "message": {
            "message_id": FIRST + number,
            "from": who,
            "chat": chat,
            "date": 1_780_000_000,
            "text": f"{' '.join(words)} {marker_of(number)}",
        },
    }
    return Payload(number, marker_of(number), json.dumps(update, ensure_ascii=False).encode())


class Mails:
    """Mails of 40 kB: text, its HTML twin and a file, as people's programs send them."""

    def __init__(self, size: int = 40_000) -> None:
        rng = random.Random(7)
        paragraphs = [" ".join(rng.choices(_WORDS, k=40)) for _ in range(6)]
        self._text = "\n\n".join(paragraphs)
        rows = "".join(
            f'<tr><td style="padding:4px">{" ".join(rng.choices(_WORDS, k=6))}</td></tr>' for _ in range(30)
        )
        self._html = (
            f"<html><body>{''.join(f'<p>{p}</p>' for p in paragraphs)}<table>{rows}</table></body></html>"
        )
        rest = size - len(self._mail(0, b"", None, None))
        # 57 bytes are a line of base64; the file differs from mail to mail by its first line.
        self._file = base64.encodebytes(rng.randbytes(max(rest, 0) * 100 // 136 // 57 * 57)).replace(
            b"\n", b"\r\n"
        )

    def new(self, number: int, sender: int, reply_to: int | None = None) -> Payload:
        """A mail of a sender. `reply_to` is the number of the mail it answers, so it goes into that thread."""
        first = base64.encodebytes(b"%PDF-1.7 " + f"{number:048d}".encode()).replace(b"\n", b"\r\n")
        return Payload(number, marker_of(number), self._mail(number, first + self._file, sender, reply_to))

    def _mail(self, number: int, file: bytes, sender: int | None, reply_to: int | None) -> bytes:
        thread = (
            f"In-Reply-To: <{FIRST + reply_to}@mail.example>\r\n"
            f"References: <{FIRST + reply_to}@mail.example>\r\n"
            if reply_to is not None
            else ""
        )
        head = (
            "Received: from mx.example (mx.example [192.0.2.1]) by bench.example; Mon, 01 Jun 2026 10:00:00 +0300\r\n"
            f"From: =?utf-8?b?{base64.b64encode(f'Іван {sender}'.encode()).decode()}?= <{address(sender or 0)}>\r\n"
            f"To: {MAIL_ADDRESS}\r\nSubject: =?utf-8?q?Tour_{number}?=\r\nDate: Mon, 01 Jun 2026 10:00:00 +0300\r\n"
            f"Message-ID: <{FIRST + number}@mail.example>\r\n{thread}MIME-Version: 1.0\r\n"
            'Content-Type: multipart/mixed; boundary="bench-mixed"\r\n\r\n'
            "--bench-mixed\r\n"
            'Content-Type: multipart/alternative; boundary="bench-alt"\r\n\r\n'
        ).encode()
        parts = [
            head,
            b"--bench-alt\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
            _encoded(f"{marker_of(number)}\n\n{self._text}"),
            b"--bench-alt\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
            _encoded(self._html),
            b"--bench-alt--\r\n",
            (
                b'--bench-mixed\r\nContent-Type: application/pdf; name="passport.pdf"\r\n'
                b'Content-Disposition: attachment; filename="passport.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
            ),
            file,
            b"--bench-mixed--\r\n",
        ]
        return b"".join(parts)


def address(sender: int) -> str:
    return f"ivan{FIRST + sender}@mail.example"


def _encoded(text: str) -> bytes:
    return base64.encodebytes(text.encode()).replace(b"\n", b"\r\n")
