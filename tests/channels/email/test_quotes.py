"""The new part of an answer, in the shapes of the usual mail programs, written by us."""

import pytest

from channels.email.compose import words_for
from channels.email.quotes import split_quotes

ANSWERS = {
    "gmail en": "Thanks!\n\nOn Tue, Nov 14, 2023 at 10:02 AM Support <support@acme.example> wrote:\n\n> Old\n> text\n",
    "gmail en wrapped": "Thanks!\n\nOn Tue, Nov 14, 2023 at 10:02 AM Support Team of Acme\n<support@acme.example> wrote:\n> Old text\n",
    "gmail ru": "Thanks!\n\nвт, 14 нояб. 2023 г. в 10:02, Support <support@acme.example>:\n\n> Old text\n",
    "gmail uk": "Thanks!\n\nвт, 14 лист. 2023 р. о 10:02 Support <support@acme.example> пише:\n\n> Old text\n",
    "apple en": "Thanks!\n\n> On 14 Nov 2023, at 10:02, Support <support@acme.example> wrote:\n> \n> Old text\n",
    "apple ru": "Thanks!\n\n14 нояб. 2023 г., в 10:02, Support <support@acme.example> написал(а):\n\nOld text\n",
    "thunderbird ru": "Thanks!\n\n14.11.2023 10:02, Support пишет:\n> Old text\n",
    "thunderbird uk": "Thanks!\n\n14.11.2023 10:02, Support пише:\n> Old text\n",
    "outlook en": "Thanks!\n\n-----Original Message-----\nFrom: Support <support@acme.example>\nSent: Tuesday\nTo: Ann\nSubject: Hi\n\nOld text\n",
    "outlook rule": "Thanks!\n\n________________________________\nFrom: Support <support@acme.example>\nSent: Tuesday, November 14\nTo: Ann\nSubject: Hi\n\nOld text\n",
    "outlook ru": "Thanks!\n\nОт: Support <support@acme.example>\nОтправлено: 14 ноября 2023 г. 10:02\nКому: Ann\nТема: Hi\n\nOld text\n",
    "outlook uk": "Thanks!\n\nВід: Support <support@acme.example>\nНадіслано: 14 листопада 2023 р. 10:02\nКому: Ann\nТема: Hi\n\nOld text\n",
    "mail.ru": "Thanks!\n\nВторник, 14 ноября 2023, 10:02 +03:00 от Support <support@acme.example>:\n>Old text\n",
    "yandex": 'Thanks!\n\n14.11.2023, 10:02, "Support" <support@acme.example>:\nOld text\n',
    "ukr.net": 'Thanks!\n\n14 листопада 2023, 10:02:10, від "Support" <support@acme.example>:\n\nOld text\n',
    "phone": "Thanks!\n\nSent from my iPhone\n",
    "phone ru": "Thanks!\n\nОтправлено из мобильной Почты Mail.ru\n",
    "phone uk": "Thanks!\n\nНадіслано з мобільного\n",
    "signature": "Thanks!\n-- \nAnn\n+380 44 000 00 00\n",
    "bare quote": "Thanks!\n\n> Old text\n> more\n",
    "no lead-in": "Thanks!\n\nSupport <support@acme.example> wrote on 2023-11-14 10:02 wrote:\n> Old text\n",
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_only_the_new_part_is_shown_and_nothing_is_lost(name: str) -> None:
    whole = ANSWERS[name]
    split = split_quotes(whole)
    assert split.text == "Thanks!"
    assert split.quoted is not None
    assert "".join(whole.split()) == "".join(f"{split.text}{split.quoted}".split())


@pytest.mark.parametrize("language", ["en", "uk", "ru"])
def test_our_own_marker_ends_the_answer(language: str) -> None:
    marker = words_for(language).reply_above
    split = split_quotes(
        f"Thanks!\n\nSomeone said in a strange way\n\n> {marker}\n> Old text\n> no more\ntail\n"
    )
    assert split.text.startswith("Thanks!")
    assert "Old text" not in split.text


@pytest.mark.parametrize(
    "text",
    [
        "I bought it on 14.11.2023 at 10:02 and it broke.\nPlease help.",
        "From: Kyiv\nWe fly in May.",
        "He wrote:\nyou owe me money",
        "The schedule is:\n14.11.2023 10:02 first\n15.11.2023 11:02 second",
        "Write to ann@customer.example:\nshe knows",
        "> what is this?\nYour question, answered below the quote.",
        "Тема: возврат\nКому: директору\nПрошу вернуть деньги",
    ],
)
def test_text_that_only_looks_like_a_quote_stays(text: str) -> None:
    assert split_quotes(text).text == text


def test_answers_between_quoted_lines_stay_whole() -> None:
    text = "On 2023-11-14 10:02 a@b.example wrote:\n> First?\n\nYes.\n\n> Second?\n\nNo."
    assert split_quotes(text).text == text
    above = "See inline.\n\n" + text
    assert split_quotes(above).text == above


def test_an_answer_below_the_quote_is_shown_without_it() -> None:
    split = split_quotes("On 2023-11-14 10:02 a@b.example wrote:\n> Question?\n\nAnswer.")
    assert split.text == "Answer."
    assert "Question?" in (split.quoted or "")


def test_if_nothing_is_left_everything_is_shown() -> None:
    text = "On 2023-11-14 10:02 a@b.example wrote:\n> Question?"
    assert split_quotes(text).text == text


@pytest.mark.parametrize("subject", ["Fwd: Tickets", "FW: Tickets", "Пересл: Билеты", "Fwd: Квитки"])
def test_forwards_keep_their_content(subject: str) -> None:
    text = "Look\n\n-----Original Message-----\nFrom: a@b.example\nSent: x\nTo: y\nSubject: z\n\ncontent"
    split = split_quotes(text, subject=subject)
    assert (split.text, split.quoted) == (text, None)


@pytest.mark.parametrize(
    "line",
    ["---------- Forwarded message ---------", "-------- Переслане повідомлення --------",
     "-------- Пересылаемое сообщение --------", "Begin forwarded message:"],
)  # fmt: skip
def test_a_forward_is_known_by_its_line(line: str) -> None:
    text = f"Look\n\n{line}\nFrom: a@b.example\nDate: x\nSubject: z\nTo: y\n\ncontent"
    assert split_quotes(text).text == text
