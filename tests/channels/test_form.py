"""Web forms: what is taken in, what is refused and how clearly, callbacks, robots, and the answers pages see."""

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import get_channel
from channels.contract import InboxConfig, Malformed, RawRequest, SignatureRefused
from crm_core.clock import from_iso
from crm_core.envelope import Auto, IdentityKind

CHANNEL = get_channel("form")
NOW = from_iso("2026-11-22T10:00:00+00:00")
FULL = {
    "name": "Олена",
    "phone": "050 111 22 33",
    "email": "Olena@Example.COM",
    "message": "Хочу тур\r\nдо моря",
}


def an_inbox(**config):
    return InboxConfig(id=1, key="fk", channel="form", name="Site", secret="s", config=config, region="UA")


def a_post(fields, *, form=False, at=NOW, headers=None, **more):
    body = urlencode(fields).encode() if form else json.dumps(fields).encode()
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    return RawRequest(method="POST", url="https://desk/hooks/fk/form", headers=headers or {}, body=body,
                      content_type=more.pop("content_type", kind), received_at=at, **more)  # fmt: skip


def read(fields, inbox=None, **more):
    inbox = inbox or an_inbox()
    (item,) = CHANNEL.split(a_post(fields, **more), inbox)
    (envelope,) = CHANNEL.parse(item, inbox)
    return envelope


@pytest.mark.parametrize("form", [False, True])
def test_a_submission_is_a_message_with_claims(form):
    envelope = read({**FULL, "utm_source": "ads", "consent": "on", "budget": "1000"}, form=form)
    assert [(c.kind, c.value, c.verified, c.evidence) for c in envelope.sender.identities] == [
        (IdentityKind.PHONE, "+380501112233", False, "form"),
        (IdentityKind.EMAIL, "olena@example.com", False, "form"),
    ]
    assert envelope.sender.display_name == "Олена"
    assert envelope.text == "Хочу тур\nдо моря"
    assert envelope.fields == {"utm_source": "ads", "consent": "on", "budget": "1000"}
    assert (envelope.auto, envelope.wants_kind, envelope.parse_warnings) == (Auto.HUMAN, None, ())
    assert envelope.conversation_key == "email:olena@example.com"


@pytest.mark.parametrize(
    ("raw", "charset"),
    [
        ("Тур на море".encode(), ""),
        ("Тур на море".encode("cp1251"), ""),
        ("Тур на море".encode("koi8-r"), "; charset=koi8-r"),
        ("Тур на море".encode("cp1251"), "; charset=klingon"),
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_pages_of_any_encoding_are_read(raw, charset, quoted):
    value = "".join(f"%{byte:02X}" for byte in raw).encode() if quoted else raw.replace(b" ", b"+")
    request = RawRequest(
        method="POST", url="https://desk/hooks/fk/form", headers={}, body=b"message=" + value,
        content_type="application/x-www-form-urlencoded" + charset, received_at=NOW,
    )  # fmt: skip
    (item,) = CHANNEL.split(request, an_inbox())
    assert CHANNEL.parse(item, an_inbox())[0].text == "Тур на море"


def test_a_page_s_script_may_post_its_form_as_multipart():
    def part(name, value, more=""):
        return f'--B\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n{value}\r\n'

    body = (
        "".join(part(name, value) for name, value in {**FULL, "Місто": "Київ"}.items())
        + part("passport", "%PDF", '; filename="Паспорт.pdf"\r\nContent-Type: application/pdf')
        + part("photo", "", '; filename=""\r\nContent-Type: application/octet-stream')
        + "--B--\r\n"
    ).encode()
    request = RawRequest(
        method="POST", url="https://desk/hooks/fk/form", headers={}, body=body,
        content_type="multipart/form-data; boundary=B", received_at=NOW,
    )  # fmt: skip
    (item,) = CHANNEL.split(request, an_inbox())
    (envelope,) = CHANNEL.parse(item, an_inbox())
    assert [c.value for c in envelope.sender.identities] == ["+380501112233", "olena@example.com"]
    assert envelope.text == "Хочу тур\nдо моря"
    assert envelope.fields == {"Місто": "Київ", "passport": "Паспорт.pdf"}
    assert CHANNEL.acknowledge(request, an_inbox(), None).content_type.startswith("text/html")


def test_unreadable_contacts_are_kept_for_a_person_to_see():
    envelope = read({"phone": "call me", "email": "me at home", "text": "hi"})
    assert envelope.sender.identities == ()
    assert envelope.fields == {"phone": "call me", "email": "me at home"}
    assert len(envelope.parse_warnings) == 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "at least one of the fields phone, email, message"),
        ({"name": "x", "phone": "  "}, "at least one of the fields phone, email, message"),
        ({"message": "x" * 20_001}, "'message' is longer than 20000"),
        ({"message": "x", "name": "y" * 201}, "'name' is longer than 200"),
        ({"message": "x", "odd": "y" * 4_001}, "'odd' is longer than 4000"),
        ({"message": "x", "k" * 101: "y"}, "longer than 100"),
        ({"message": "x"} | {f"f{n}": "y" for n in range(100)}, "more than 100 fields"),
        ({"message": "x", "a": ["y" * 3_000] * 30}, "64 kB"),
    ],
)
@pytest.mark.parametrize("form", [False, True])
def test_a_bad_form_is_told_what_it_lacks(fields, reason, form):
    with pytest.raises(Malformed, match=reason):
        CHANNEL.split(a_post(fields, form=form), an_inbox())
    assert json.loads(CHANNEL.refuse(an_inbox(), 422, reason).body) == {"ok": False, "error": reason}


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"{", "application/json", "not JSON"),
        (b"[1]", "application/json", "JSON object"),
        (b"x", "text/plain", "application/json, application/x-www-form-urlencoded or multipart/form-data"),
        (b"x", "multipart/form-data", "no boundary"),
        (b"x", "multipart/form-data; boundary=B", "cut off"),
        (b"", "multipart/form-data; boundary=B", "cut off"),
        (
            b'--B\r\nContent-Disposition: form-data; name="message"\r\n\r\nhal',
            "multipart/form-data; boundary=B",
            "cut off",
        ),
        (b"--B\r\n\r\nx\r\n--B--", "multipart/form-data; boundary=B", "must be filled"),
        (b"&" * 1_000, "application/x-www-form-urlencoded", "not readable"),
    ],
)
def test_a_body_that_is_no_form_is_refused(body, kind, reason):
    request = RawRequest(
        method="POST", url="https://desk/hooks/fk/form", headers={}, body=body, content_type=kind
    )
    with pytest.raises(Malformed, match=reason):
        CHANNEL.split(request, an_inbox())


def test_a_robot_is_thanked_and_marked():
    envelope = read({**FULL, "website": "http://spam"})
    assert envelope.auto is Auto.BULK
    assert envelope.data["quarantine"] == "honeypot"
    assert (
        json.loads(CHANNEL.acknowledge(a_post({**FULL, "website": "x"}), an_inbox(), None).body)["ok"] is True
    )


@pytest.mark.parametrize(
    ("config", "asked", "kind"),
    [
        ({}, "lead", None),
        ({"allow_kind": True}, "lead", "lead"),
        ({"allow_kind": True}, "president", None),
        ({"default_kind": "lead"}, "ticket", "lead"),
        ({"default_kind": "lead", "allow_kind": True}, "ticket", "ticket"),
    ],
)
def test_the_form_chooses_its_kind_only_where_allowed(config, asked, kind):
    assert read({**FULL, "kind": asked}, an_inbox(**config)).wants_kind == kind


@pytest.mark.parametrize(
    ("fields", "at", "until"),
    [
        ({"callback": "yes"}, None, None),
        ({"callback_at": "2026-11-23T14:00:00+02:00"}, "2026-11-23T12:00:00Z", None),
        ({"callback_at": "14:00", "timezone": "Europe/Kyiv"}, "2026-11-22T12:00:00Z", None),
        ({"callback_at": "09:00", "timezone": "Europe/Kyiv"}, "2026-11-23T07:00:00Z", None),
        ({"callback_at": "2026-11-23T14:00", "timezone": "Europe/Kyiv"}, "2026-11-23T12:00:00Z", None),
        (
            {"callback_window": "14:00-16:30", "timezone": "Europe/Kyiv"},
            "2026-11-22T12:00:00Z",
            "2026-11-22T14:30:00Z",
        ),
        (
            {"callback_window": "23:00 – 01:00", "timezone": "Europe/Kyiv"},
            "2026-11-22T21:00:00Z",
            "2026-11-22T23:00:00Z",
        ),
        ({"callback_at": "tomorrow"}, None, None),
        ({"callback_at": "25:00", "timezone": "Europe/Kyiv"}, None, None),
    ],
)
def test_a_callback_is_understood_in_the_customers_zone(fields, at, until):
    callback = read({**FULL, **fields}).data["callback"]
    assert callback["at"] == (from_iso(at) if at else None)
    assert callback["until"] == (from_iso(until) if until else None)
    assert callback["number"] == "+380501112233"


def test_a_clock_time_without_a_zone_waits_for_one():
    callback = read({**FULL, "callback_at": "14:00", "timezone": "../../etc/passwd"}).data["callback"]
    assert (callback["at"], callback["local"], callback["timezone"]) == (None, "14:00", None)
    assert "callback" not in read(FULL).data


def test_the_same_submission_is_one():
    def key(at=NOW, headers=None, **fields):
        return CHANNEL.split(a_post({**FULL, **fields}, at=at, headers=headers), an_inbox())[0].dedupe_key

    assert key() == key(at=NOW + 60_000)
    assert key() != key(at=NOW + 600_000)
    assert key() != key(message="other")
    assert key(submission_id="s1") == key(submission_id="s1", at=NOW + 10**9) == "form:s1"
    assert key(headers={"idempotency-key": "i1"}, message="a") == key(
        headers={"idempotency-key": "i1"}, message="b"
    )


def test_a_signature_is_needed_only_where_configured():
    assert CHANNEL.verify(a_post(FULL), an_inbox()) is None
    with pytest.raises(SignatureRefused):
        CHANNEL.verify(a_post(FULL), an_inbox(require_signature="yes"))


def test_the_answer_fits_the_asker():
    told = json.loads(CHANNEL.acknowledge(a_post(FULL), an_inbox(), None).body)
    assert told == {"ok": True, "reference": read(FULL).data["reference"]}
    inbox = an_inbox(redirect_url='https://site/"><script>', thanks_text="<Дякуємо>")
    page = CHANNEL.acknowledge(a_post(FULL, form=True), inbox, None)
    assert page.content_type.startswith("text/html")
    assert "<script>" not in page.body
    assert "&lt;Дякуємо&gt;" in page.body
    assert 'http-equiv="refresh"' in page.body
    evil = CHANNEL.acknowledge(a_post(FULL, form=True), an_inbox(redirect_url="javascript:alert(1)"), None)
    assert "javascript" not in evil.body


@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=80)
    | st.dictionaries(
        st.sampled_from(
            ["phone", "email", "message", "callback_at", "callback_window", "timezone", "callback", "name"]
        )
        | st.text(max_size=8),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(max_size=30)
        | st.lists(st.integers(), max_size=3),
        max_size=6,
    ).map(lambda d: json.dumps(d).encode()),
    kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "", "text/plain"]),
)
def test_any_body_is_read_or_refused(body, kind):
    request = RawRequest(method="POST", url="https://d/hooks/fk/form", headers={}, body=body, content_type=kind,
                         received_at=NOW)  # fmt: skip
    CHANNEL.acknowledge(request, an_inbox(), None)
    try:
        items = CHANNEL.split(request, an_inbox())
    except Malformed as error:
        assert error.reason
        return
    for item in items:
        for envelope in CHANNEL.parse(item, an_inbox()):
            json.dumps([envelope.fields, envelope.data]).encode()
            envelope.text.encode()
