"""What mail programs write in each language: the only place for such words.

Data, no logic. A new language is one more row; `quotes` and `compose` read the rows and know no language.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MailWords:
    """All words are lower case and are compared without regard to case, except `reply_above`, which we print.

    `wrote` ends the line above a quote ("On … Ann wrote:"); `headers` are the names of the block that Outlook
    puts there; `original` names the separator line; `sent_from` begins a phone's own signature.
    """

    language: str
    reply_above: str
    via: str  # between an agent's and an inbox's name
    wrote: tuple[str, ...]
    lead_in: tuple[str, ...]  # how such a line begins, where it has a fixed beginning
    headers_from: tuple[str, ...]
    headers_date: tuple[str, ...]
    headers_to: tuple[str, ...]
    headers_subject: tuple[str, ...]
    original: tuple[str, ...]
    forwarded: tuple[str, ...]
    forward_prefix: tuple[str, ...]  # of a subject, with the colon
    sent_from: tuple[str, ...]
    no_html: tuple[str, ...]  # what stands in a text part that only says "read the HTML part"


WORDS: tuple[MailWords, ...] = (
    MailWords(
        language="en",
        reply_above="##- Please write your reply above this line -##",
        via="via",
        wrote=("wrote:", "writes:"),
        lead_in=("on ",),
        headers_from=("from",),
        headers_date=("date", "sent"),
        headers_to=("to",),
        headers_subject=("subject",),
        original=("original message", "original email"),
        forwarded=("forwarded message", "begin forwarded message"),
        forward_prefix=("fwd:", "fw:"),
        sent_from=("sent from", "get outlook for", "sent with"),
        no_html=("does not support html", "view this email in your browser", "html-compatible"),
    ),
    MailWords(
        language="uk",
        reply_above="##- Будь ласка, пишіть відповідь над цим рядком -##",
        via="через",
        wrote=("пише:", "пишуть:", "написав:", "написала:", "написав(ла):", "написав(-ла):", "написали:"),
        lead_in=(),
        headers_from=("від", "від кого"),
        headers_date=("дата", "надіслано", "відправлено"),
        headers_to=("кому",),
        headers_subject=("тема",),
        original=("оригінальне повідомлення", "вихідне повідомлення", "початкове повідомлення"),
        forwarded=("переслане повідомлення", "перенаправлене повідомлення", "пересланий лист"),
        forward_prefix=("пересл:", "переслано:", "пер:"),
        sent_from=("надіслано з", "надіслано зі", "відправлено з", "відправлено із"),
        no_html=("не підтримує html",),
    ),
    MailWords(
        language="ru",
        reply_above="##- Пожалуйста, пишите ответ над этой строкой -##",
        via="через",
        wrote=(
            "пишет:", "пишут:", "написал:", "написала:", "написал(а):", "написал (а):", "написали:",
            "писал:", "писала:", "писал(а):",
        ),
        lead_in=(),
        headers_from=("от", "от кого"),
        headers_date=("дата", "отправлено", "отправлен"),
        headers_to=("кому",),
        headers_subject=("тема",),
        original=("исходное сообщение", "оригинальное сообщение", "исходное письмо"),
        forwarded=("пересылаемое сообщение", "пересланное сообщение", "перенаправленное сообщение",
                   "начало переадресованного сообщения"),
        forward_prefix=("пересл:", "переслано:", "fwd:"),
        sent_from=("отправлено из", "отправлено с", "отправлено со"),
        no_html=("не поддерживает html",),
    ),
)  # fmt: skip

BY_LANGUAGE = {words.language: words for words in WORDS}


def words_for(language: str) -> MailWords:
    """The row of a language tag like `uk` or `uk-UA`; English if there is none."""
    return BY_LANGUAGE.get(language.lower().replace("_", "-").partition("-")[0], BY_LANGUAGE["en"])
