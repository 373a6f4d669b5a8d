"""Customer-first and waiting callers, over HTTP against each vendor's fake: prompt, keys, connecting an agent."""

import pytest

from channels import get_channel
from channels.contract import AuthFailed, ConnectRequest, NotConfigured
from tests.channels.telephony.support import an_inbox
from tests.channels.telephony.test_against_fake_pbx import CUSTOMER, LINE, a_wish, inbox_of, pbx_of
from tests.fakes.pbx import CallScript

PROMPT = "You asked us to call you."


def wish(**more):
    return a_wish(agent_ext=None, customer_first=True, prompt=PROMPT, language="uk", **more)


def joining(inbox, base):
    if inbox.config["vendor"] != "generic":
        return inbox
    return an_inbox("generic", number=LINE, originate_url=f"{base}/originate", connect_url=f"{base}/connect")


@pytest.mark.parametrize("vendor", ["generic", "twilio"])
@pytest.mark.parametrize("answers", [True, False])
async def test_the_customer_answers_and_an_agent_is_connected(serve, http, vendor, answers):
    hook = await serve(inbox_of(vendor))
    script = CallScript(agent_answers=True, customer="answer")
    async with pbx_of(vendor, hook.url, script=script) as pbx:
        inbox = joining(inbox_of(vendor, pbx.base_url), pbx.base_url)
        channel, context = get_channel("telephony"), hook.context(http)
        told = await channel.originate(wish(), inbox, context)
        await pbx.idle()
        (command,) = pbx.originated
        assert (command.to, command.agent_ext, command.customer_first) == (CUSTOMER, None, True)
        assert PROMPT in str(command.raw)
        call_id = told.provider_call_id
        assert call_id == command.call_id
        if vendor == "generic":
            assert hook.call.status == "answered"  # he is on the line and nobody is with him yet
        pbx.script = CallScript(agent_answers=answers)
        await channel.connect(
            ConnectRequest(call_id=call_id, agent_ext="205", correlation_id="cb-1", outbound=True),
            inbox,
            context,
        )
        await pbx.idle()
    (joined,) = pbx.connected
    assert (joined.call_id, joined.agent_ext, joined.correlation_id) == (call_id, "205", "cb-1")
    assert hook.refusals == []
    (leg,) = [each for each in hook.call.legs if each.agent]
    assert (leg.agent_ext, leg.was_answered) == ("205", answers)
    assert hook.call.direction == "outbound" and hook.call.customer_number == CUSTOMER


async def test_keys_are_wishes_and_move_no_call(serve, http):
    for press, script in (
        ("callback", CallScript(waits=True, queue="main", presses="callback")),
        ("snooze", CallScript(waits=True, queue="main", presses="snooze")),
    ):
        hook = await serve(inbox_of("generic"))
        async with pbx_of("generic", hook.url) as pbx:
            await pbx.inbound_call(CUSTOMER, LINE, script)
        said = [e.call.request for e in hook.envelopes.values() if e.call is not None and e.call.request]
        assert said == [press]
        assert hook.call.disposition == "abandoned"
        assert hook.call.queue == "main"


async def test_twilios_keys_come_by_our_own_addresses(serve):
    from tests.channels.telephony.support import a_request

    channel = get_channel("telephony")
    inbox = inbox_of("twilio")
    for tail, digits, wanted in (
        ("/later?dir=outbound&side=customer&corr=cb-1", "9", "snooze"),
        ("/later?dir=outbound&side=customer&corr=cb-1", "1", None),
        ("/wish", "1", "callback"),
        ("/wish", "9", None),
    ):
        body = f"CallSid=CA1&From=%2B380501112233&To=%2B380441234567&CallStatus=in-progress&Digits={digits}&Direction=inbound"
        request = a_request(body.encode(), tail=tail, content_type="application/x-www-form-urlencoded")
        (item,) = channel.split(request, inbox)
        (envelope,) = channel.parse(item, inbox)
        assert envelope.call is not None
        assert (envelope.call.request, envelope.call.state) == (wanted, "note"), (tail, digits)
        answer = channel.acknowledge(request, inbox, None)
        assert ("<Hangup/>" in answer.body) == (wanted is not None)


async def test_twilio_offers_a_callback_before_the_queue(serve):
    inbox = an_inbox("twilio", number=LINE, auth_token="tok", callback_offer="Press 1 & we call back")
    hook = await serve(inbox)
    async with pbx_of("twilio", hook.url) as pbx:
        played = await pbx.inbound_call(CUSTOMER, LINE, CallScript(asks=True))
    assert "/wish" in played.routed.raw and "Press 1 &amp; we call back" in played.routed.raw
    assert played.routed.queue == "switchboard"


async def test_what_a_pbx_cannot_is_said_clearly(serve, http):
    hook = await serve(inbox_of("mango"))
    channel, context = get_channel("telephony"), hook.context(http)
    join = ConnectRequest(call_id="1", agent_ext="205")
    async with pbx_of("mango", hook.url) as pbx:
        with pytest.raises(NotConfigured, match="agent-first"):
            await channel.originate(wish(), inbox_of("mango", pbx.base_url), context)
        with pytest.raises(NotConfigured, match="agent-first"):
            await channel.connect(join, inbox_of("mango", pbx.base_url), context)
        assert pbx.originated == [] and pbx.refused == []
    with pytest.raises(NotConfigured, match="connect_url"):
        await channel.connect(join, an_inbox("generic"), context)
    async with pbx_of("generic", hook.url) as pbx:
        wrong = an_inbox("generic", connect_url=f"{pbx.base_url}/connect")
        pbx.originate_errors.append((401, "{}"))
        with pytest.raises(AuthFailed):
            await channel.connect(join, wrong, context)
