"""Mailing notices to the people who want them by mail: one mail for a notice, when its minute is over."""

import structlog
from sqlalchemy import select

from channels import get_channel
from channels.config import inbox_config
from channels.contract import AuthFailed, ChannelContext, ChannelError, NotConfigured, Transient
from crm_core import notices
from crm_core.clock import DAY
from crm_core.db.uow import read_row
from crm_core.envelope import Outbound
from crm_core.jobs import Abandon, JobRegistry, JobRow
from crm_core.schema import agent, inbox, notification
from crm_core.services import Services
from routing.sla.notice_words import WORDS, line_text

log = structlog.get_logger(__name__)


def declare(registry: JobRegistry) -> None:
    registry.job(notices.MAIL_JOB, lease_s=60, queue="deliver")(mail)


async def mail(services: Services, job: JobRow) -> None:
    """The job `notice.mail {id}`. A repeat after a crash carries the same Message-ID."""
    notice_id = int(job.args["id"])
    statement = (
        select(notification, agent.c.email, agent.c.language, agent.c.active)
        .join(agent, agent.c.id == notification.c.agent_id)
        .where(notification.c.id == notice_id)
    )
    async with services.db.reading() as conn:
        row = await read_row(conn, statement)
        inbox_id = await notices.mail_inbox(conn)
        account = await read_row(conn, select(inbox).where(inbox.c.id == inbox_id)) if inbox_id else None
        lines = (await notices.lines_of(conn, [notice_id]))[notice_id]
    # Read meanwhile at the desk, or too old to be news: not worth a mail.
    if row is None or account is None or not row["active"] or row["mailed_at"] or row["read_at"]:
        return
    if services.clock.now_ms() - row["created_at"] > DAY:
        return
    words = WORDS.get(row["language"], WORDS["en"])
    texts = [line_text(line["data"], row["language"]) for line in lines]
    if row["lines"] > len(texts):
        texts.append(words["more"].format(n=row["lines"] - len(texts)))
    outbound = Outbound(
        ref=f"notice-{notice_id}", message_id=0, conversation_key=row["email"], to=row["email"],
        text="\n".join([*texts, "", f"{services.settings.public_url}/desk"]),
        subject=words["mail_subject"].format(count=row["lines"]), automatic=True, language=row["language"],
    )  # fmt: skip
    ctx = ChannelContext(http=services.http, clock=services.clock, public_url=services.settings.public_url)
    try:
        await get_channel("email").send(outbound, inbox_config(account), ctx)
    except (NotConfigured, AuthFailed) as error:
        raise Abandon(f"notices cannot be mailed: {error.detail}") from error
    except Transient:
        raise
    except ChannelError as error:
        # This person's address is wrong; it is no defect of ours and helps nobody to try again.
        log.warning("notice_not_mailed", notification_id=notice_id, error=error.detail)
        return
    async with services.db.transaction() as uow:
        await uow.update(notification, notice_id, {"mailed_at": uow.now})
