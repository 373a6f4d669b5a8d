"""Reply tokens: what we made is recognised in any case, everything else is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.email import make_reply_token, make_subject_token, parse_reply_token, parse_subject_token
from channels.email.tokens import address_with_token, find_subject_token, token_in_address

IDS = st.integers(min_value=1, max_value=2**63 - 1)


@given(IDS)
def test_round_trip_through_an_address_in_capitals(number: int) -> None:
    address = address_with_token("support@acme.example", make_reply_token("secret", number))
    assert len(address.partition("@")[0]) <= 64
    token = token_in_address(address.upper())
    assert token is not None
    assert parse_reply_token("secret", token) == number
    assert parse_reply_token("other secret", token) is None


@given(IDS, st.integers(min_value=0), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_changed_letter_is_noticed(number: int, at: int, letter: str) -> None:
    token = make_reply_token("secret", number)
    at %= len(token)
    forged = token[:at] + letter + token[at + 1 :]
    assert parse_reply_token("secret", forged) == (number if forged == token else None)


@given(st.text(max_size=60))
def test_any_text_is_no_token(text: str) -> None:
    assert parse_reply_token("secret", text) is None
    assert parse_subject_token("secret", text) is None


def test_the_two_kinds_do_not_pass_for_each_other() -> None:
    subject = make_subject_token("secret", 5)
    assert parse_subject_token("secret", find_subject_token(f"Re: hello {subject.upper()} x") or "") == 5
    assert parse_subject_token("other", subject) is None
    assert parse_reply_token("secret", subject.strip("[#]").replace("-", "")) is None


@pytest.mark.parametrize("number", [0, -1, 2**63])
def test_ids_that_cannot_be(number: int) -> None:
    with pytest.raises(ValueError, match="not a conversation id"):
        make_reply_token("secret", number)


def test_a_long_mailbox_name_keeps_its_plain_address() -> None:
    long = f"{'x' * 50}@acme.example"
    assert address_with_token(long, make_reply_token("secret", 2**62)) == long
