"""Each vendor's adapter against that vendor's fake, over HTTP: calls in, calls out, and events in bad order."""

import dataclasses

import pytest

from channels import get_channel
from channels.contract import (
    AuthFailed,
    CallDecision,
    ContentRejected,
    NotConfigured,
    OriginateRequest,
    OutcomeUnknown,
    RateLimitedByProvider,
    Transient,
)
from tests.channels.telephony.support import FrozenClock, an_inbox
from tests.fakes.pbx import CallScript, Delivery, generic_pbx, mango_pbx, twilio_pbx

CUSTOMER, LINE = "+380501112233", "+380441234567"
VENDORS = ["generic", "twilio", "mango"]
BAD_ORDER = Delivery(shuffled=True, twice=True)


def pbx_of(vendor, hook_url, **more):
    more.setdefault("clock", FrozenClock())
    if vendor == "generic":
        return generic_pbx("s3cret", hook_url=hook_url, **more)
    if vendor == "twilio":
        return twilio_pbx("AC1", "tok", hook_url=hook_url, **more)
    return mango_pbx("vkey", "vsalt", hook_url=hook_url, **more)


def inbox_of(vendor, base=""):
    return {
        "generic": an_inbox("generic", number=LINE, originate_url=f"{base}/originate"),
        "twilio": an_inbox("twilio", number=LINE, account_sid="AC1", auth_token="tok", api_base=base),
        "mango": an_inbox(
            "mango", number=LINE, vpbx_api_key="vkey", vpbx_salt="vsalt", api_base=f"{base}/vpbx"
        ),
    }[vendor]


def a_wish(**more):
    return OriginateRequest(**{"correlation_id": "cb-1", "to_number": CUSTOMER, "agent_ext": "101", **more})


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("script", "disposition"),
    [
        (CallScript(), "answered"),
        (CallScript(agent_answers=False), "missed"),
        (CallScript(agent_answers=False, hangs_up=True), "abandoned"),
    ],
)
@pytest.mark.parametrize("delivery", [Delivery(), BAD_ORDER, Delivery(shuffled=True, seed=11)])
async def test_a_call_in_ends_as_it_was(serve, *, vendor, script, disposition, delivery):
    hook = await serve(inbox_of(vendor))
    async with pbx_of(vendor, hook.url, delivery=delivery) as pbx:
        await pbx.inbound_call(CUSTOMER, LINE, script)
    assert hook.refusals == []
    call = hook.call
    assert (call.status, call.disposition, call.direction) == ("ended", disposition, "inbound")
    assert (call.customer_number, call.did, call.agent_ext) == (CUSTOMER, LINE, "101")
    assert call.missed is (disposition != "answered")
    assert call.talk_sec == (30 if disposition == "answered" else None)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_order_and_repetition_do_not_matter(serve, vendor):
    ends = []
    for delivery in (Delivery(), BAD_ORDER, Delivery(shuffled=True, seed=3), Delivery(twice=True, seed=5)):
        hook = await serve(inbox_of(vendor))
        async with pbx_of(vendor, hook.url, delivery=delivery) as pbx:
            pbx.dialect.call_id = lambda number, dice: "CA" + "0" * 32
            await pbx.inbound_call(CUSTOMER, LINE, CallScript(recording=True))
        ends.append(dataclasses.replace(hook.call, first_received_at=0))
    assert all(end == ends[0] for end in ends)


@pytest.mark.parametrize("vendor", ["generic", "twilio"])
async def test_the_hooks_answer_sends_the_call_to_the_decided_agent(serve, vendor):
    hook = await serve(inbox_of(vendor))
    hook.decision = CallDecision(agent_id=9, agent_ext="205", agent_name="Олена", customer_name="<Ivan> & Co")
    async with pbx_of(vendor, hook.url) as pbx:
        played = await pbx.inbound_call(CUSTOMER, LINE, CallScript(asks=True))
    assert played.routed.agent_ext == "205"
    assert [each.sender.identities[0].value for each in hook.asked] == [CUSTOMER]
    assert hook.call.agent_ext == "205"
    assert hook.call.disposition == "answered"


@pytest.mark.parametrize("vendor", ["generic", "twilio"])
async def test_without_a_decision_the_pbx_uses_its_default(serve, vendor):
    hook = await serve(inbox_of(vendor))
    async with pbx_of(vendor, hook.url) as pbx:
        played = await pbx.inbound_call(CUSTOMER, LINE, CallScript(asks=True))
    assert played.routed is None or played.routed.agent_ext is None
    assert hook.call.agent_ext == "101"


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("script", "disposition", "side"),
    [
        (CallScript(), "answered", None),
        (CallScript(customer="no_answer"), "no_answer", "customer"),
        (CallScript(customer="busy"), "busy", "customer"),
        (CallScript(customer="invalid"), "invalid_number", "customer"),
        (CallScript(agent_answers=False), "no_answer", "agent"),
    ],
)
@pytest.mark.parametrize("delivery", [Delivery(), BAD_ORDER])
async def test_a_call_out_carries_our_id_and_its_outcome(
    serve, http, *, vendor, script, disposition, side, delivery
):
    hook = await serve(inbox_of(vendor))
    async with pbx_of(vendor, hook.url, script=script, delivery=delivery) as pbx:
        await get_channel("telephony").originate(a_wish(), inbox_of(vendor, pbx.base_url), hook.context(http))
        await pbx.idle()
    (command,) = pbx.originated
    assert (command.to, command.agent_ext, command.correlation_id) == (CUSTOMER, "101", "cb-1")
    assert hook.refusals == []
    call = hook.call
    assert call.correlation_id == "cb-1"
    assert call.direction == "outbound"
    assert call.failed_side == side
    assert call.disposition == disposition or (side == "agent" and call.disposition == "cancelled")
    assert not call.missed
    if side is None:
        assert call.customer_number == CUSTOMER


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, "{}", AuthFailed),
        (429, "{}", RateLimitedByProvider),
        (503, "", Transient),
        (504, "", OutcomeUnknown),
        (400, '{"code":21211,"message":"bad","result":3200}', ContentRejected),
    ],
)
async def test_refusals_of_a_command_are_told_apart(serve, http, *, vendor, status, body, error):
    hook = await serve(inbox_of(vendor))
    async with pbx_of(vendor, hook.url) as pbx:
        pbx.originate_errors.append((status, body))
        with pytest.raises(error) as caught:
            await get_channel("telephony").originate(
                a_wish(), inbox_of(vendor, pbx.base_url), hook.context(http)
            )
    assert type(caught.value) is error
    assert pbx.originated == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"result":3102}', AuthFailed),
        ('{"result":3105}', AuthFailed),
        ('{"result":5001}', RateLimitedByProvider),
        ('{"result":5003}', Transient),
        ('{"result":2240}', ContentRejected),
        ("<html>", OutcomeUnknown),
    ],
)
async def test_mango_says_errors_with_status_200(serve, http, body, error):
    hook = await serve(inbox_of("mango"))
    async with pbx_of("mango", hook.url) as pbx:
        pbx.originate_errors.append((200, body))
        with pytest.raises(error):
            await get_channel("telephony").originate(
                a_wish(), inbox_of("mango", pbx.base_url), hook.context(http)
            )


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_lost_answer_is_never_dialled_again_by_itself(serve, http, vendor):
    hook = await serve(inbox_of(vendor))
    async with pbx_of(vendor, hook.url) as pbx:
        pbx.hang_next = True
        with pytest.raises(OutcomeUnknown):
            await get_channel("telephony").originate(
                a_wish(), inbox_of(vendor, pbx.base_url), hook.context(http)
            )
        await pbx.idle()
    assert len(pbx.originated) == 1


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_pbx_that_is_down_may_be_tried_again(serve, http, vendor):
    hook = await serve(inbox_of(vendor))
    async with pbx_of(vendor, hook.url) as pbx:
        gone = pbx.base_url
    with pytest.raises(Transient):
        await get_channel("telephony").originate(a_wish(), inbox_of(vendor, gone), hook.context(http))


async def test_wrong_credentials_are_refused_by_both_sides(serve, http):
    hook = await serve(an_inbox("twilio", account_sid="AC1", auth_token="other", number=LINE))
    async with pbx_of("twilio", hook.url) as pbx:
        await pbx.inbound_call(CUSTOMER, LINE)
        inbox = an_inbox("twilio", account_sid="AC1", auth_token="other", number=LINE, api_base=pbx.base_url)
        with pytest.raises(AuthFailed):
            await get_channel("telephony").originate(a_wish(), inbox, hook.context(http))
    assert hook.calls == {}
    assert len(hook.refusals) == len(pbx.deliveries) > 0


async def test_the_same_wish_twice_is_one_call_where_the_pbx_can_tell(serve, http):
    hook = await serve(inbox_of("generic"))
    async with pbx_of("generic", hook.url) as pbx:
        for _ in range(2):
            await get_channel("telephony").originate(
                a_wish(), inbox_of("generic", pbx.base_url), hook.context(http)
            )
        await pbx.idle()
    assert len(pbx.originated) == 1


async def test_what_is_missing_is_named(http, serve):
    hook = await serve(inbox_of("generic"))
    channel = get_channel("telephony")
    with pytest.raises(NotConfigured, match="originate_url"):
        await channel.originate(a_wish(), an_inbox("generic"), hook.context(http))
    with pytest.raises(NotConfigured, match="account_sid"):
        await channel.originate(a_wish(), an_inbox("twilio"), hook.context(http))
    with pytest.raises(NotConfigured, match="vendor"):
        await channel.originate(a_wish(), an_inbox("acme"), hook.context(http))
    assert await channel.health(an_inbox("mango"), hook.context(http)) == {
        "ok": False,
        "detail": "not set: vpbx_api_key, vpbx_salt",
    }


async def test_events_refused_while_the_hook_is_down_come_again(serve):
    hook = await serve(inbox_of("generic"))
    hook.fail_first = 2
    async with pbx_of("generic", hook.url) as pbx:
        await pbx.inbound_call(CUSTOMER, LINE)
    assert hook.call.disposition == "answered"
