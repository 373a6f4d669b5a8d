"""An agent's presence as told by his socket: the lease lives as long as the socket does."""

from crm_core.access import Actor
from crm_core.errors import Invalid
from crm_core.services import Services
from routing import presence

#: what an agent may say of himself; the rest (wrap-up) is the router's
SAYABLE = ("online", "break", "dnd", "offline", "away_reassign")


async def renew_lease(services: Services, actor: Actor) -> None:
    async with services.db.transaction() as uow:
        await presence.heartbeat(uow, actor.agent_id)


async def say_presence(services: Services, actor: Actor, wanted: object) -> None:
    """Raises Invalid for anything but a presence an agent may choose."""
    if not isinstance(wanted, str) or wanted not in SAYABLE:
        raise Invalid(f"presence must be one of {', '.join(SAYABLE)}", code="bad_presence")
    async with services.db.transaction() as uow:
        await presence.set_presence(uow, actor.agent_id, wanted)
