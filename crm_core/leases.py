"""Single ownership in a crowd of processes: a row with a deadline and a fence that grows with every new owner."""

from sqlalchemy import delete, select, update

from crm_core.db.uow import UnitOfWork
from crm_core.schema import lease


async def acquire(uow: UnitOfWork, name: str, owner: str, *, ttl_ms: int) -> int | None:
    """Take or renew the lease. Returns its fence (grows with each change of owner), None if another holds it."""
    made = await uow.insert_new(
        lease,
        {"name": name, "owner": owner, "until": uow.now + ttl_ms, "token": 1},
        key=["name"],
        returning=lease.c.token,
    )
    if made is not None:
        return int(made)
    renewed = await uow.scalar(
        update(lease)
        .where(lease.c.name == name, lease.c.owner == owner)
        .values(until=uow.now + ttl_ms)
        .returning(lease.c.token)
    )
    if renewed is not None:
        return int(renewed)
    taken = await uow.scalar(
        update(lease)
        .where(lease.c.name == name, lease.c.until <= uow.now)
        .values(owner=owner, until=uow.now + ttl_ms, token=lease.c.token + 1)
        .returning(lease.c.token)
    )
    return int(taken) if taken is not None else None


async def release(uow: UnitOfWork, name: str, owner: str) -> None:
    """Give it up so that another need not wait."""
    await uow.execute(delete(lease).where(lease.c.name == name, lease.c.owner == owner))


async def holds(uow: UnitOfWork, name: str, owner: str) -> bool:
    found = await uow.scalar(
        select(lease.c.name).where(lease.c.name == name, lease.c.owner == owner, lease.c.until > uow.now)
    )
    return found is not None
