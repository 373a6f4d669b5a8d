"""A visitor's chat window and an agent's desk in two real browsers: both see what the other does, without reloading."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from crm_core.db.uow import UnitOfWork
from crm_core.schema import team
from switchboard.demo.people import DOMAIN
from tests.e2e.browser import a_browser, by_test, front_end
from tests.e2e.bureau import SECRETS, bureau
from tests.e2e.colleague import Colleague
from tests.e2e.installation import ROOT

playwright = pytest.importorskip("playwright.async_api", reason="NOT TESTED: playwright is not installed")

ARTIFACTS = ROOT / "artifacts"


async def unhurried(uow: UnitOfWork) -> None:
    """An offer shall not run out because the machine is slow."""
    for row in await uow.rows(team.select()):
        settings = {**row["settings"], "channels": {"chat": {"max": 4, "timeout_s": 600}}}
        await uow.execute(team.update().where(team.c.id == row["id"]).values(settings=settings))


@pytest.mark.parametrize("form", ["embedded"], indirect=True)
async def test_a_visitor_writes_and_an_agent_answers(
    form: str, tmp_path: Path, new_database: Callable[[str], str], redis_url: Callable[[], str | None]
) -> None:
    front_end()
    at_desk: list[str] = []
    at_site: list[str] = []
    async with AsyncExitStack() as stack:
        at = await stack.enter_async_context(
            bureau(tmp_path / "bureau", new_database("browser"), redis_url(), prepare=unhurried)
        )
        play = await stack.enter_async_context(playwright.async_playwright())
        desk = await stack.enter_async_context(a_browser(play, tmp_path / "agent", 1360, 850, at_desk))
        site = await stack.enter_async_context(a_browser(play, tmp_path / "visitor", 1100, 800, at_site))

        # Pavlo comes to work.
        await desk.goto(f"{at.place.url}/desk")
        await by_test(desk, "login-email").fill(f"pavlo@{DOMAIN}")
        await by_test(desk, "login-password").fill(SECRETS.password("pavlo"))
        await by_test(desk, "login-submit").click()
        await by_test(desk, "presence").click()
        await by_test(desk, "presence-online").click()
        await desk.locator("[data-test=presence][data-presence=online]").wait_for()

        # Somebody comes to the site and writes.
        await site.goto(f"{at.place.url}/demo/chat")
        await by_test(site, "chat-open").click()
        chat = site.frame_locator("iframe")
        await by_test(chat, "chat-text").fill("Hello! Where do I find my vouchers?")
        await by_test(chat, "chat-send").click()
        await by_test(chat, "chat-message").filter(has_text="vouchers").wait_for()

        # He gets the offer, accepts, reads.
        await by_test(desk, "offer-accept").click()
        await by_test(desk, "thread").wait_for()
        message = by_test(desk, "message").filter(has_text="Where do I find my vouchers?")
        await message.wait_for()
        assert await message.get_attribute("data-shape") == "in"
        await by_test(desk, "inquiry-row").filter(has_text="vouchers").wait_for()
        await by_test(desk, "thread").locator("[data-test=sla-chip]").first.wait_for()

        # He notes something for himself, and answers.
        await by_test(desk, "composer-note").click()
        await by_test(desk, "composer-text").fill("asks like last year, be short")
        await by_test(desk, "composer-send").click()
        note = by_test(desk, "message").filter(has_text="be short")
        await note.wait_for()
        assert await note.get_attribute("data-shape") == "note"
        await by_test(desk, "composer-reply").click()
        await by_test(desk, "composer-text").fill("Good day! They are in your account, under Trips.")
        await by_test(desk, "composer-send").click()
        await by_test(chat, "chat-message").filter(has_text="under Trips").wait_for()
        await (
            desk.locator(
                "[data-test=message][data-state=sent], [data-test=message][data-state=delivered], "
                "[data-test=message][data-state=read]"
            )
            .filter(has_text="under Trips")
            .wait_for()
        )

        # And so on, both ways; nothing has been reloaded.
        await by_test(chat, "chat-text").fill("Found them, thank you")
        await by_test(chat, "chat-send").click()
        await by_test(desk, "message").filter(has_text="Found them, thank you").wait_for()
        said = [await each.inner_text() for each in await by_test(chat, "chat-message").all()]
        assert len(said) == 3, said
        assert not any("be short" in text for text in said), "a note stays inside"
        assert await site.evaluate("performance.getEntriesByType('navigation').length") == 1

        ARTIFACTS.mkdir(exist_ok=True)
        await desk.screenshot(path=ARTIFACTS / "desk.png")
        await site.screenshot(path=ARTIFACTS / "widget.png")
        async with Colleague(at, "iryna", feed=False) as chief:
            row = await chief.find(channel="webchat")
            assert row["assignee"]["name"] == "Pavlo Hrytsenko"
            shapes = [m["direction"] for m in await chief.thread(row["id"]) if m["kind"] in ("text", "note")]
            assert shapes == ["in", "internal", "out", "in"]
    assert at_site == []
    assert at_desk == []
