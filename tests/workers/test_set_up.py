"""Connecting an inbox tells its provider; a refusal is seen by people."""

from sqlalchemy import select, update

from crm_core.db.engine import Database
from crm_core.events import DomainEvent
from crm_core.schema import event, inbox, inbox_state, job
from crm_core.services import Services
from tests.fakes.telegram_api import FakeTelegram
from tests.workers.conftest import an_inbox, rows, until
from workers.runner import LocalRunner

TOKEN = "123456:AAtestTokenTestTokenTestTokenTest"


async def changed(db: Database, inbox_id: int) -> None:
    async with db.transaction() as uow:
        await uow.emit(DomainEvent(kind="inbox.updated", subject_kind="inbox", subject_id=inbox_id))
    await until(lambda: _idle(db))


async def _idle(db: Database) -> bool:
    return not await rows(db, job, job.c.state != "dead")


async def test_a_webhook_is_set_with_its_secret_and_a_wrong_token_is_told(
    services: Services, runner: LocalRunner
) -> None:
    async with FakeTelegram(token=TOKEN) as fake:
        box = await an_inbox(
            services.db, "telegram", config={"token": TOKEN, "mode": "webhook", "api_base": fake.base_url}
        )
        await changed(services.db, box["id"])
        params = next(params for method, params in fake.calls if method == "setWebhook")
        assert params["url"] == f"http://127.0.0.1:1/hooks/{box['key']}"
        assert params["secret_token"] == "top-secret"
        async with services.db.transaction() as uow:
            await uow.execute(
                update(inbox).values(
                    config={**box["config"], "token": "999:wrongTokenWrongTokenWrongTokenWrong"}
                )
            )
        await changed(services.db, box["id"])
    (state,) = await rows(services.db, inbox_state)
    assert state["last_error"]
    async with services.db.reading() as conn:
        alarms = (
            (await conn.execute(select(event.c.payload).where(event.c.kind == "alarm.raised")))
            .scalars()
            .all()
        )
    assert [a["what"] for a in alarms] == ["set_up_refused"]
