"""What providers send at the edge: real payloads, signatures, odd and hostile input, and the answers they get."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels import get_channel
from channels.contract import CallDecision, InboxConfig, Malformed, RawItem, RawRequest, SignatureRefused
from channels.telephony import causes
from crm_core import call_machine
from crm_core.envelope import Kind
from tests.channels.telephony.support import NOW, a_request, an_inbox

CHANNEL = get_channel("telephony")
PAYLOADS = Path(__file__).parents[1] / "payloads" / "telephony"
TWILIO = an_inbox("twilio", account_sid="AC1", auth_token="tok", number="+380441234567")
MANGO = an_inbox("mango", vpbx_api_key="vkey", vpbx_salt="vsalt")


def signed(body, secret="s3cret", stamp=None, **headers):
    mac = hmac.new(secret.encode(), (f"{stamp}.".encode() if stamp else b"") + body, hashlib.sha256).digest()
    given = {"x-signature": base64.urlsafe_b64encode(mac).rstrip(b"=").decode(), **headers}
    return {**given, "x-timestamp": str(stamp)} if stamp else given


def read(event, inbox=None, **more):
    """Envelopes of a generic event."""
    inbox = inbox or an_inbox()
    request = a_request(json.dumps(event).encode(), **more)
    return [each for item in CHANNEL.split(request, inbox) for each in CHANNEL.parse(item, inbox)]


def twilio_request(form, tail="", token="tok", url=None):
    url = url or f"https://desk.example/hooks/hk{tail}"
    text = url + "".join(name + form[name] for name in sorted(form))
    mac = base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()
    return a_request(
        urlencode(form).encode(), tail=tail, headers={"x-twilio-signature": mac},
        content_type="application/x-www-form-urlencoded",
    )  # fmt: skip


def mango_request(event, tail="/events/call", sign=None, key="vkey", **more):
    text = event if isinstance(event, str) else json.dumps(event, indent=1)
    sign = sign or hashlib.sha256(f"{key}{text}vsalt".encode()).hexdigest()
    return a_request(urlencode({"vpbx_api_key": key, "sign": sign, "json": text}).encode(), tail=tail, **more)


# --- the SIP proxy's real posts


def test_what_a_real_sip_proxy_posted_becomes_three_calls():
    inbox = InboxConfig(
        id=1, key="hk", channel="telephony", name="", secret="rig-secret", config={"vendor": "generic"}
    )
    calls, keys = {}, set()
    for captured in json.loads((PAYLOADS / "kamailio_dialogs.json").read_text())["requests"]:
        request = a_request(captured["body"].encode(), headers=captured["headers"])
        assert CHANNEL.verify(request, inbox) is None
        (item,) = CHANNEL.split(request, inbox)
        (envelope,) = CHANNEL.parse(item, inbox)
        assert item.dedupe_key == f"call:{captured['headers']['x-event-id']}"
        assert item.lane == f"call:{envelope.call.call_id}"
        assert envelope.conversation_key == "+380501112233"
        assert envelope.sender.identities[0].verified is False
        assert envelope.sender.display_name == 'A\\"b'
        assert envelope.parse_warnings == ()
        keys.add(item.dedupe_key)
        calls[envelope.call.call_id], _ = call_machine.apply(
            calls.get(envelope.call.call_id), envelope.call,
            occurred_at=envelope.occurred_at, received_at=envelope.occurred_at, inbox_id=1,
        )  # fmt: skip
    assert len(keys) == 9
    ends = [call_machine.settle(call, call.missed_check_at or 0)[0] for call in calls.values()]
    assert [call.disposition for call in ends] == ["answered", "abandoned", "busy"]
    assert [call.did for call in ends] == ["+380441234567"] * 3
    assert ends[0].talk_sec == 1


# --- generic


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no X-Signature"),
        (signed(b"{}", secret="other"), "does not match"),
        (signed(b"{ }"), "does not match"),
        ({"x-signature": "\udcff"}, "does not match"),
        (signed(b"{}", stamp=NOW // 1000 - 301), "window"),
        (signed(b"{}", stamp=NOW // 1000 + 301), "window"),
        ({k: v for k, v in signed(b"{}", stamp=NOW // 1000).items() if k != "x-timestamp"}, "does not match"),
        ({**signed(b"{}"), "x-timestamp": str(NOW // 1000)}, "does not match"),
    ],
)
def test_a_generic_post_without_a_true_signature_is_refused(headers, reason):
    with pytest.raises(SignatureRefused, match=reason):
        CHANNEL.verify(a_request(b"{}", headers=headers), an_inbox())


@pytest.mark.parametrize("stamp", [None, NOW // 1000, NOW, NOW // 1000 - 299])
def test_a_true_signature_passes(stamp):
    assert CHANNEL.verify(a_request(b"{}", headers=signed(b"{}", stamp=stamp)), an_inbox()) is None


def test_an_inbox_may_insist_on_timestamps():
    inbox = an_inbox(require_timestamp=True)
    with pytest.raises(SignatureRefused, match="X-Timestamp"):
        CHANNEL.verify(a_request(b"{}", headers=signed(b"{}")), inbox)
    assert CHANNEL.verify(a_request(b"{}", headers=signed(b"{}", stamp=NOW // 1000)), inbox) is None


def test_an_unknown_vendor_or_missing_secret_proves_nothing():
    for inbox in (an_inbox("acme"), an_inbox("twilio"), an_inbox("mango")):
        with pytest.raises(SignatureRefused):
            CHANNEL.verify(a_request(b"{}", headers=signed(b"{}")), inbox)


RICH = {
    "event_id": "e1", "call_id": "c1", "leg_id": "l2", "parent_leg_id": "c1", "direction": "inbound",
    "from": "0501112233", "to": "101", "did": "+380441234567", "agent_ext": "101", "queue": "sales",
    "state": "ended", "seq": 7, "at": "2026-11-22T10:00:00+02:00", "cause": 19, "final": True, "talk_sec": 0,
    "recording_url": "https://pbx/1.wav", "correlation_id": "k", "name": "Іван",
}  # fmt: skip


def test_the_documented_form_is_read_whole():
    (envelope,) = read(RICH)
    call = envelope.call
    assert (call.call_id, call.leg_id, call.parent_leg_id, call.agent_leg) == ("c1", "l2", "c1", True)
    assert (call.from_number, call.did, call.queue, call.seq) == (
        "+380501112233",
        "+380441234567",
        "sales",
        7,
    )
    assert (call.cause, call.disposition, call.final) == ("19", "no_answer", True)
    assert (call.recording_url, call.correlation_id, call.display_name) == ("https://pbx/1.wav", "k", "Іван")
    assert envelope.occurred_at == 1_795_334_400_000
    assert envelope.dedupe_key == "call:e1"


@pytest.mark.parametrize(
    "at", [1795305914, 1795305914000, "1795305914", "2026-11-22T00:05:14Z", "2026-11-22T00:05:14"]
)
def test_times_are_read_in_every_documented_form(at):
    assert read({**RICH, "at": at})[0].occurred_at == NOW


@pytest.mark.parametrize("at", [None, "soon", -5, 10**30, float("1e400"), {}, True, "9" * 5000])
def test_a_senseless_time_becomes_the_arrival_time_and_says_so(at):
    (envelope,) = read({**RICH, "at": at})
    assert envelope.occurred_at == NOW
    assert envelope.parse_warnings != ()


@pytest.mark.parametrize("caller", ["anonymous", "", None, "sip:anonymous@anonymous.invalid", "101"])
def test_a_withheld_number_keeps_the_call(caller):
    (envelope,) = read({**RICH, "from": caller})
    assert envelope.conversation_key == "withheld:c1"
    assert envelope.sender.identities == ()


def test_several_events_come_in_one_post():
    body = {
        "events": [
            {"call_id": "c1", "state": "ringing"},
            {"call_id": "c2", "state": "hm"},
            {"state": "ended"},
        ]
    }
    envelopes = read(body, headers={"x-event-id": "E"})
    assert [each.kind for each in envelopes] == [Kind.CALL, Kind.UNSUPPORTED, Kind.UNSUPPORTED]
    assert [each.dedupe_key for each in envelopes] == ["call:E:0", "call:E:1", "call:E:2"]
    # nobody's request: not a lead of the sales team, but a row for people to look at
    assert [each.data.get("quarantine") for each in envelopes] == [
        None,
        "call state 'hm'",
        "a call event without call_id",
    ]


def test_the_signed_id_is_stronger_than_the_header():
    (item,) = CHANNEL.split(
        a_request(json.dumps(RICH).encode(), headers={"x-event-id": "forged"}), an_inbox()
    )
    assert item.dedupe_key == "call:e1"


def test_without_an_id_the_step_is_the_key():
    event = {"call_id": "c1", "state": "ringing", "at": 1}
    keys = [CHANNEL.split(a_request(json.dumps({**event, **more}).encode()), an_inbox())[0].dedupe_key
            for more in ({}, {"name": "x"}, {"at": 2}, {"leg_id": "l"}, {"state": "ended"})]  # fmt: skip
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "JSON object"),
        (b"\xff", "UTF-8"),
        (b"[" * 100_000, "not usable|not JSON"),
        (b'{"state":"ringing"}', "call_id is missing"),
        (b'{"call_id":"c"}', "state is missing"),
        (b'{"events":{}}', "list of objects"),
        (b'{"events":[1]}', "list of objects"),
        (json.dumps({"events": [{}] * 501}).encode(), "at most 500"),
    ],
)
def test_what_cannot_be_cut_is_refused_by_name(body, reason):
    with pytest.raises(Malformed, match=reason):
        CHANNEL.split(a_request(body), an_inbox())
    assert json.loads(CHANNEL.refuse(an_inbox(), 400, "x").body) == {"ok": False, "error": "x"}


def test_only_a_ringing_event_that_asks_is_directed():
    asking = {"call_id": "c1", "state": "ringing", "ask": True, "from": "+380501112233"}
    decision = CallDecision(agent_id=1, agent_ext="101", agent_name="Олена", customer_name="Іван")
    for event, query, asked in [
        (asking, {}, True),
        ({**asking, "ask": False}, {"ask": "1"}, True),
        ({**asking, "ask": False}, {}, False),
        ({**asking, "state": "ended"}, {"ask": "1"}, False),
    ]:
        request = a_request(json.dumps(event).encode(), query=query)
        assert (CHANNEL.asks_where(request, an_inbox()) is not None) is asked
        answer = json.loads(CHANNEL.acknowledge(request, an_inbox(), decision).body)
        want = {"route": {"agent_ext": "101", "agent": "Олена", "queue": None}, "customer": {"name": "Іван"}}
        assert answer == (want if asked else {"ok": True})
    assert json.loads(CHANNEL.acknowledge(a_request(json.dumps(asking).encode()), an_inbox(), None).body) == {
        "route": None
    }


# --- Twilio


def test_the_signature_of_twilios_own_documentation():
    # https://www.twilio.com/docs/usage/security#validating-requests, the worked example.
    form = {"CallSid": "CA1234567890ABCDE", "Caller": "+12349013030", "Digits": "1234", "From": "+12349013030",
            "To": "+18005551212"}  # fmt: skip
    request = RawRequest(
        method="POST", url="https://mycompany.com/myapp.php?foo=1&bar=2", body=urlencode(form).encode(),
        headers={"x-twilio-signature": "0/KCTR6DLpKmkAf8muzZqo1nDgQ="},
    )  # fmt: skip
    assert CHANNEL.verify(request, an_inbox("twilio", auth_token="12345")) is None
    with pytest.raises(SignatureRefused):
        CHANNEL.verify(request, an_inbox("twilio", auth_token="12346"))


@pytest.mark.parametrize("url", ["https://desk.example/hooks/hk", "https://desk.example:443/hooks/hk"])
def test_twilio_may_sign_the_url_with_or_without_its_port(url):
    assert CHANNEL.verify(twilio_request({"CallSid": "CA1"}, url=url), TWILIO) is None


def test_a_json_body_is_proven_by_its_hash_in_the_url():
    body = b'{"CallSid":"CA1"}'
    url = f"https://desk.example/hooks/hk?bodySHA256={hashlib.sha256(body).hexdigest()}"
    mac = base64.b64encode(hmac.new(b"tok", url.encode(), hashlib.sha1).digest()).decode()
    good = RawRequest(method="POST", url=url, headers={"x-twilio-signature": mac}, body=body)
    assert CHANNEL.verify(good, TWILIO) is None
    with pytest.raises(SignatureRefused, match="bodySHA256"):
        CHANNEL.verify(
            RawRequest(method="POST", url=url, headers={"x-twilio-signature": mac}, body=b"{}"), TWILIO
        )


VOICE = {
    "CallSid": "CA1",
    "From": "+380501112233",
    "To": "+380441234567",
    "CallStatus": "ringing",
    "Direction": "inbound",
}


@pytest.mark.parametrize(
    ("ext", "config", "noun", "target"),
    [
        ("101", {}, "Client", "101"),
        ("101", {"sip_domain": "pbx.example"}, "Sip", "sip:101@pbx.example"),
        ("+380671112233", {}, "Number", "+380671112233"),
        ('a"<&>', {}, "Client", 'a"<&>'),
    ],
)
def test_twiml_dials_the_decided_agent_and_survives_any_extension(ext, config, noun, target):
    inbox = an_inbox("twilio", auth_token="tok", **config)
    answer = CHANNEL.acknowledge(twilio_request(VOICE), inbox, CallDecision(agent_id=1, agent_ext=ext))
    assert answer.content_type == "text/xml"
    dial = ET.fromstring(answer.body).find("Dial")
    assert dial.find(noun).text == target
    assert (
        dial.find(noun)
        .get("statusCallback")
        .startswith("https://desk.example/hooks/hk/leg?side=agent&dir=inbound")
    )
    assert dial.get("action") == "https://desk.example/hooks/hk/dialed"


def test_a_call_that_routing_does_not_direct_waits_or_falls_back():
    waiting = ET.fromstring(
        CHANNEL.acknowledge(twilio_request(VOICE), TWILIO, CallDecision(queue="a&b")).body
    )
    assert waiting.findtext("Enqueue") == "a&b"
    fallback = an_inbox("twilio", auth_token="tok", fallback_number="+380441112233")
    dialled = ET.fromstring(CHANNEL.acknowledge(twilio_request(VOICE), fallback, None).body)
    assert dialled.findtext("Dial/Number") == "+380441112233"
    unanswered = twilio_request({**VOICE, "DialCallStatus": "no-answer"}, tail="/dialed")
    assert ET.fromstring(CHANNEL.acknowledge(unanswered, TWILIO, None).body).find("Enqueue") is not None
    assert CHANNEL.asks_where(unanswered, TWILIO) is None


@pytest.mark.parametrize(
    ("form", "state", "disposition"),
    [
        ({"CallStatus": "in-progress", "Direction": "inbound"}, "ringing", None),
        (
            {"CallStatus": "in-progress", "Direction": "outbound-dial", "ParentCallSid": "CA0"},
            "answered",
            None,
        ),
        ({"CallStatus": "completed", "Direction": "inbound"}, "ended", None),
        (
            {"CallStatus": "completed", "Direction": "outbound-api", "AnsweredBy": "machine_start"},
            "ended",
            "machine",
        ),
        (
            {"CallStatus": "failed", "Direction": "outbound-api", "SipResponseCode": "404"},
            "ended",
            "invalid_number",
        ),
        ({"CallStatus": "canceled", "Direction": "outbound-dial"}, "ended", "cancelled"),
        (
            {"RecordingSid": "RE1", "RecordingUrl": "https://api/RE1", "RecordingStatus": "completed"},
            "recording_ready",
            None,
        ),
        ({"QueueResult": "hangup", "QueueTime": "40", "CallStatus": "completed"}, "ended", "abandoned"),
        ({"QueueResult": "bridged", "CallStatus": "in-progress"}, "note", None),
    ],
)
def test_twilio_steps(form, state, disposition):
    (item,) = CHANNEL.split(twilio_request({"CallSid": "CA1", **form}), TWILIO)
    (envelope,) = CHANNEL.parse(item, TWILIO)
    assert (envelope.call.state, envelope.call.disposition) == (state, disposition)
    assert envelope.call.call_id == form.get("ParentCallSid", "CA1")


def test_twilio_without_a_call_is_refused_and_an_unknown_status_set_aside():
    with pytest.raises(Malformed, match="CallSid"):
        CHANNEL.split(twilio_request({"A": "b"}), TWILIO)
    (item,) = CHANNEL.split(twilio_request({"CallSid": "CA1", "CallStatus": "teleported"}), TWILIO)
    assert CHANNEL.parse(item, TWILIO)[0].data["quarantine"] == "Twilio call status 'teleported'"


@pytest.mark.parametrize(("way", "direction"), [("inbound", "inbound"), ("outbound-api", "outbound")])
def test_the_end_of_a_dial_closes_the_agents_leg_and_keeps_the_direction(way, direction):
    form = {
        **VOICE,
        "Direction": way,
        "DialCallStatus": "completed",
        "DialCallSid": "CA9",
        "DialCallDuration": "12",
    }
    (item,) = CHANNEL.split(twilio_request(form, tail="/dialed"), TWILIO)
    call = CHANNEL.parse(item, TWILIO)[0].call
    assert (call.leg_id, call.call_id, call.agent_leg, call.direction) == ("CA9", "CA1", True, direction)
    assert (call.state, call.disposition, call.talk_sec) == ("ended", "answered", 12)


# --- Mango


def test_mangos_signature_is_over_the_text_as_it_came():
    event = {
        "entry_id": "e",
        "call_id": "l",
        "seq": 1,
        "call_state": "Appeared",
        "from": {"number": "380501112233"},
    }
    assert CHANNEL.verify(mango_request(event), MANGO) is None
    for bad in (
        mango_request(event, sign="0" * 64),
        mango_request(event, key="other"),
        a_request(b"json={}"),
    ):
        with pytest.raises(SignatureRefused):
            CHANNEL.verify(bad, MANGO)


def test_mangos_addresses_may_be_limited():
    inbox = an_inbox("mango", vpbx_api_key="vkey", vpbx_salt="vsalt", mango_ips="81.88.80.132, 81.88.82.0/24")
    assert CHANNEL.verify(mango_request({}, remote="81.88.82.36"), inbox) is None
    for remote in ("81.88.80.133", "", "nonsense"):
        with pytest.raises(SignatureRefused, match="mango_ips"):
            CHANNEL.verify(mango_request({}, remote=remote), inbox)


def test_mangos_clock_is_calibrated():
    event = {"entry_id": "e", "call_id": "l", "seq": 1, "timestamp": NOW // 1000 + 3 * 3600, "call_state": "Appeared",
             "location": "ivr", "from": {"number": "84951234567"}, "to": {"number": "380441234567"}}  # fmt: skip
    inbox = an_inbox("mango", vpbx_api_key="vkey", vpbx_salt="vsalt", mango_utc_offset="3")
    (item,) = CHANNEL.split(mango_request(event), inbox)
    (envelope,) = CHANNEL.parse(item, inbox)
    assert envelope.occurred_at == NOW
    assert envelope.call.from_number == "+84951234567"
    assert (item.lane, item.order) == ("call:e", 1)


@pytest.mark.parametrize(
    ("tail", "event", "what"),
    [
        ("/events/sms", {"entry_id": "e"}, "Mango event 'events/sms'"),
        ("/events/call", {}, "Mango events/call without entry_id"),
        ("/events/call", {"entry_id": "e", "call_state": "Melted"}, "Mango call_state 'Melted'"),
        ("/events/call", {"entry_id": "e", "call_state": "Appeared", "from": 5, "to": []}, None),
    ],
)
def test_what_mango_may_add_is_set_aside_not_lost(tail, event, what):
    (item,) = CHANNEL.split(mango_request(event, tail=tail), MANGO)
    (envelope,) = CHANNEL.parse(item, MANGO)
    assert envelope.data.get("quarantine") == what


@pytest.mark.parametrize("path", ["events/dtmf", "events/recording", "events/record/tagged"])
def test_what_mango_tells_as_a_matter_of_course_troubles_nobody(path):
    (item,) = CHANNEL.split(mango_request({"entry_id": "e"}, tail=f"/{path}"), MANGO)
    (envelope,) = CHANNEL.parse(item, MANGO)
    assert envelope.kind is Kind.SYSTEM
    assert "quarantine" not in envelope.data


@pytest.mark.parametrize(
    ("event", "state"),
    [
        ({"entry_id": "e", "call_id": "l", "seq": 1, "call_state": "Appeared"}, "ringing"),
        ({"entry_id": "e", "entry_result": 0, "call_direction": 1}, "ended"),
        ({"entry_id": "e", "recording_id": "r"}, "recording_ready"),
    ],
)
def test_mango_may_post_everything_to_one_address(event, state):
    (item,) = CHANNEL.split(mango_request(event, tail=""), MANGO)
    (envelope,) = CHANNEL.parse(item, MANGO)
    assert envelope.call is not None
    assert envelope.call.state == state


def test_mangos_word_on_a_command_names_our_id():
    (item,) = CHANNEL.split(
        mango_request({"command_id": "cb-1", "result": 4200}, tail="/result/callback"), MANGO
    )
    (envelope,) = CHANNEL.parse(item, MANGO)
    assert (envelope.kind, envelope.data["correlation_id"], envelope.data["ok"]) == (
        Kind.SYSTEM,
        "cb-1",
        False,
    )


# --- all


@pytest.mark.parametrize(
    ("table", "code", "want"),
    [
        (causes.of_sip, 487, "cancelled"), (causes.of_sip, 486, "busy"), (causes.of_sip, 480, "no_answer"),
        (causes.of_sip, 503, "failed"), (causes.of_sip, 200, None), (causes.of_sip, None, None),
        (causes.of_q850, 16, None), (causes.of_q850, 17, "busy"), (causes.of_q850, 1, "invalid_number"),
        (causes.of_cause, 19, "no_answer"), (causes.of_cause, 603, "rejected"),
        (causes.of_mango, 1121, "busy"), (causes.of_mango, 1120, None), (causes.of_mango, 2240, "failed"),
        (causes.of_word, "NO ANSWER", "no_answer"), (causes.of_word, "CHANUNAVAIL", "failed"), (causes.of_word, "?", None),
    ],
)  # fmt: skip
def test_causes(table, code, want):
    assert table(code) == want


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["call_id", "leg_id", "state", "from", "to", "did", "at", "seq", "cause", "disposition", "sip_code", "duration",
     "ask", "agent_leg", "entry_id", "call_state", "location", "timestamp", "talk_time", "end_time", "create_time",
     "CallSid", "CallStatus", "DialCallStatus", "RecordingSid", "QueueResult", "Timestamp", "From", "AnsweredBy"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["ringing", "ended", "failed", "answered", "Appeared", "Connected", "Disconnected", "completed"]
)
PATHS = ["", "leg", "dialed", "events/call", "events/summary", "events/record/added", "result/callback"]


@settings(max_examples=300, deadline=None)
@given(
    body=st.binary(max_size=40)
    | st.dictionaries(NAMES, WORDS | JSON, max_size=10).map(lambda d: json.dumps(d).encode()),
    path=st.sampled_from(PATHS),
)
def test_parse_is_total(body, path):
    for inbox in (an_inbox(), TWILIO, MANGO):
        item = RawItem(
            dedupe_key="k", lane="call:x", body=body, meta={"path": path, "side": "agent"}, received_at=NOW
        )
        for envelope in CHANNEL.parse(item, inbox):
            assert envelope.occurred_at > 0
            repr(envelope).encode()
            assert "\x00" not in envelope.conversation_key


@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=60)
    | st.dictionaries(NAMES, WORDS | JSON, max_size=8).map(lambda d: json.dumps(d).encode())
    | st.dictionaries(NAMES, WORDS | st.text(max_size=10), max_size=8).map(
        lambda d: urlencode(d, errors="replace").encode()
    )
    | st.dictionaries(NAMES, WORDS | JSON, max_size=8).map(
        lambda d: urlencode({"json": json.dumps(d)}).encode()
    ),
    path=st.sampled_from(PATHS),
)
def test_the_edge_raises_only_what_it_may(body, path):
    for inbox in (an_inbox(), TWILIO, MANGO):
        request = a_request(body, tail=f"/{path}", headers={"x-twilio-signature": "x", "x-signature": "x"})
        with pytest.raises(SignatureRefused):
            CHANNEL.verify(request, inbox)
        CHANNEL.asks_where(request, inbox)
        CHANNEL.acknowledge(request, inbox, CallDecision(agent_ext="1"))
        try:
            items = CHANNEL.split(request, inbox)
        except Malformed:
            continue
        for item in items:
            assert len(item.dedupe_key) <= 300
            assert len(item.lane) <= 300
            CHANNEL.parse(item, inbox)
