"""One card per person: finding, making and merging contacts, and what we know of their addresses.

Merging by itself happens only on proof (channels.md §5): a claim that the channel verified wins the address from a
contact who was known by that unproven address alone. Anything weaker becomes a suggestion for a person.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import and_, bindparam, or_, select, update

from crm_core.clock import MINUTE
from crm_core.db.prepared import Prepared
from crm_core.db.uow import Row, UnitOfWork
from crm_core.envelope import IdentityClaim
from crm_core.errors import Conflict, Invalid, NotFound
from crm_core.events import EVERYONE, DomainEvent
from crm_core.schema import contact, conversation, identity, identity_evidence, inquiry, merge_suggestion
from crm_core.search import normalize

#: an address' last_seen is written at most this often
_SEEN_EVERY_MS = 10 * MINUTE


async def resolve(
    uow: UnitOfWork,
    claims: Sequence[IdentityClaim],
    *,
    name: str | None = None,
    locale: str | None = None,
    inbound_id: int | None = None,
) -> dict[str, Any]:
    """The contact behind these claims, made if new. The first claim is the address the channel knows the person by.

    Safe when several processes meet a new person at once: the unique address decides, the losers use the winner's.
    """
    if not claims:
        return await create_contact(uow, name=name, locale=locale)
    known = await _known(uow, claims)
    primary = known.get(_key(claims[0]))
    if primary is None:
        person = await _claim_new(uow, claims[0], name=name, locale=locale, inbound_id=inbound_id)
    else:
        person = await _contact_of(uow, primary)
        await _seen(uow, primary, claims[0], person["id"], inbound_id)
        person = await _fill(uow, person, name=name, locale=locale)
    for claim in claims[1:]:
        person = await add_identity(
            uow, person, claim, existing=known.get(_key(claim)), inbound_id=inbound_id
        )
    return person


def _key(claim: IdentityClaim) -> tuple[str, str, str]:
    return (claim.kind.value, claim.value, claim.account)


async def _known(uow: UnitOfWork, claims: Sequence[IdentityClaim]) -> dict[tuple[str, str, str], Row]:
    asked = {
        f"{name}{n}": part for n, c in enumerate(claims) for name, part in zip(_KEY, _key(c), strict=True)
    }
    rows = await uow.rows(_known_of(len(claims)), asked)
    return {(r["kind"], r["value"], r["account"]): r for r in rows}


_KEY = ("kind", "value", "account")


@lru_cache(maxsize=32)
def _known_of(count: int) -> Prepared:
    one_of = (and_(*(identity.c[name] == bindparam(f"{name}{n}") for name in _KEY)) for n in range(count))
    return Prepared(select(identity).where(or_(*one_of)))


async def _contact_of(uow: UnitOfWork, address: Row) -> dict[str, Any]:
    row = await uow.find(contact, address["contact_id"])
    if row is None:
        raise NotFound(f"identity {address['id']} belongs to no contact")
    return await _survivor(uow, row)


async def _survivor(uow: UnitOfWork, row: Row) -> dict[str, Any]:
    """Follow merges to the card that is in use."""
    seen: set[int] = set()
    while row["merged_into_id"] is not None and row["id"] not in seen:
        seen.add(row["id"])
        following = await uow.find(contact, row["merged_into_id"])
        if following is None:
            break
        row = following
    return dict(row)


async def _claim_new(
    uow: UnitOfWork, claim: IdentityClaim, *, name: str | None, locale: str | None, inbound_id: int | None
) -> dict[str, Any]:
    person = await create_contact(uow, name=name, locale=locale, address=claim.value, announce=False)
    identity_id = await uow.insert_new(
        identity,
        _identity_values(uow, claim, person["id"]),
        key=["kind", "value", "account"],
        returning=identity.c.id,
    )
    if identity_id is None:
        # Another transaction met this person a moment ago and won; our card was never seen by anyone.
        await uow.execute(contact.delete().where(contact.c.id == person["id"]))
        winner = (await _known(uow, [claim]))[_key(claim)]
        return await _contact_of(uow, winner)
    await _evidence(uow, identity_id, person["id"], claim, inbound_id)
    await uow.emit(
        DomainEvent(
            kind="contact.created",
            subject_kind="contact",
            subject_id=person["id"],
            payload={"name": person["name"]},
            audience=EVERYONE,
        )
    )
    return person


def _identity_values(uow: UnitOfWork, claim: IdentityClaim, contact_id: int) -> dict[str, Any]:
    return {
        "contact_id": contact_id,
        "kind": claim.kind.value,
        "value": claim.value,
        "account": claim.account,
        "verified_at": uow.now if claim.verified else None,
        "unreachable_at": None,
        "first_seen_at": uow.now,
        "last_seen_at": uow.now,
    }


async def _evidence(
    uow: UnitOfWork, identity_id: int, contact_id: int, claim: IdentityClaim, inbound_id: int | None
) -> None:
    await uow.insert_new(
        identity_evidence,
        {
            "identity_id": identity_id,
            "contact_id": contact_id,
            "kind": claim.evidence,
            "inbound_id": inbound_id,
            "at": uow.now,
        },
        key=["identity_id", "contact_id", "kind"],
    )


async def _seen(
    uow: UnitOfWork, address: Row, claim: IdentityClaim, contact_id: int, inbound_id: int | None
) -> None:
    changes: dict[str, Any] = {}
    if address["last_seen_at"] < uow.now - _SEEN_EVERY_MS:
        changes["last_seen_at"] = uow.now
    if address["unreachable_at"] is not None:
        changes["unreachable_at"] = None  # whoever writes to us can be written to
    if claim.verified and address["verified_at"] is None:
        changes["verified_at"] = uow.now
        await _evidence(uow, address["id"], contact_id, claim, inbound_id)
    if changes:
        await uow.update(identity, address["id"], changes)


async def _fill(
    uow: UnitOfWork, person: dict[str, Any], *, name: str | None, locale: str | None
) -> dict[str, Any]:
    """Add what the card lacks; what people wrote on it is never overwritten by a channel."""
    changes: dict[str, Any] = {}
    if name and not person["name"]:
        changes["name"] = name[:300]
        changes["search_text"] = normalize([name, person["search_text"]])
    if locale and not person["locale"]:
        changes["locale"] = locale[:20]
    if not changes:
        return person
    changes["updated_at"] = uow.now
    await uow.update(contact, person["id"], changes)
    return {**person, **changes}


async def create_contact(
    uow: UnitOfWork,
    *,
    name: str | None = None,
    locale: str | None = None,
    address: str | None = None,
    announce: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """Insert a card. `more` are further columns (company_id, manager_id, timezone, vip, attributes)."""
    values: dict[str, Any] = {
        "name": name[:300] if name else None,
        "company_id": None,
        "manager_id": None,
        "locale": locale[:20] if locale else None,
        "timezone": None,
        "vip": False,
        "blocked": False,
        "attributes": {},
        "merged_into_id": None,
        "search_text": normalize([name, address]),
        "created_at": uow.now,
        "updated_at": uow.now,
        **more,
    }
    values["id"] = await uow.insert(contact, values)
    if announce:
        await uow.emit(
            DomainEvent(
                kind="contact.created",
                subject_kind="contact",
                subject_id=values["id"],
                payload={"name": values["name"]},
                audience=EVERYONE,
            )
        )
    return values


async def add_identity(
    uow: UnitOfWork,
    person: dict[str, Any],
    claim: IdentityClaim,
    *,
    existing: Row | None = None,
    inbound_id: int | None = None,
) -> dict[str, Any]:
    """Tie an address to a contact as far as the proof allows. Returns the contact that is in use afterwards."""
    if existing is None:
        values = _identity_values(uow, claim, person["id"])
        identity_id = await uow.insert_new(
            identity, values, key=["kind", "value", "account"], returning=identity.c.id
        )
        if identity_id is not None:
            await _evidence(uow, identity_id, person["id"], claim, inbound_id)
            await uow.update(
                contact,
                person["id"],
                {"search_text": normalize([person["search_text"], claim.value]), "updated_at": uow.now},
            )
            await uow.emit(
                DomainEvent(
                    kind="contact.updated",
                    subject_kind="contact",
                    subject_id=person["id"],
                    payload={
                        "identity": {
                            "kind": claim.kind.value,
                            "value": claim.value,
                            "verified": claim.verified,
                        }
                    },
                    audience=EVERYONE,
                )
            )
            return person
        existing = (await _known(uow, [claim]))[_key(claim)]
    owner = await _contact_of(uow, existing)
    if owner["id"] == person["id"]:
        await _seen(uow, existing, claim, person["id"], inbound_id)
        return person
    await _evidence(uow, existing["id"], person["id"], claim, inbound_id)
    if claim.verified and existing["verified_at"] is not None:
        # The same proven key on both cards: it is one person. The older card stays.
        winner, loser = (owner, person) if owner["id"] < person["id"] else (person, owner)
        return await merge_contacts(uow, loser["id"], winner["id"], actor="system", reason="verified_key")
    if claim.verified and await _known_by_that_alone(uow, owner["id"], existing["id"]):
        await uow.update(identity, existing["id"], {"verified_at": uow.now})
        return await merge_contacts(uow, owner["id"], person["id"], actor="system", reason="proved_address")
    await uow.insert_new(
        merge_suggestion,
        {
            "contact_id": min(person["id"], owner["id"]),
            "other_id": max(person["id"], owner["id"]),
            "identity_id": existing["id"],
            "state": "open",
            "created_at": uow.now,
        },
        key=["contact_id", "other_id"],
    )
    return person


async def _known_by_that_alone(uow: UnitOfWork, contact_id: int, identity_id: int) -> bool:
    other = await uow.scalar(
        select(identity.c.id)
        .where(identity.c.contact_id == contact_id, identity.c.id != identity_id)
        .limit(1)
    )
    return other is None


async def merge_contacts(
    uow: UnitOfWork, loser_id: int, winner_id: int, *, actor: str, reason: str
) -> dict[str, Any]:
    """Join two cards: everything of the loser moves, its id stays and redirects, strictest flags win.

    The event keeps which rows moved, so that a merge can be undone. Raises Invalid, NotFound, Conflict.
    """
    if loser_id == winner_id:
        raise Invalid("a contact cannot be merged into itself", code="same_contact")
    rows = {
        r["id"]: r
        for r in await uow.rows(
            uow.lock(select(contact).where(contact.c.id.in_([loser_id, winner_id])).order_by(contact.c.id))
        )
    }
    for wanted in (loser_id, winner_id):
        if wanted not in rows:
            raise NotFound(f"no contact {wanted}", params={"contact_id": wanted})
        if rows[wanted]["merged_into_id"] is not None:
            raise Conflict(f"contact {wanted} was merged already", code="already_merged")
    loser, winner = rows[loser_id], rows[winner_id]
    moved: dict[str, list[int]] = {}
    for owned in (identity, conversation, inquiry):
        result = await uow.execute(
            update(owned)
            .where(owned.c.contact_id == loser_id)
            .values(contact_id=winner_id)
            .returning(owned.c.id)
        )
        moved[owned.name] = list(result.scalars())
    joined = {
        "name": winner["name"] or loser["name"],
        "locale": winner["locale"] or loser["locale"],
        "timezone": winner["timezone"] or loser["timezone"],
        "company_id": winner["company_id"] or loser["company_id"],
        "manager_id": winner["manager_id"] or loser["manager_id"],
        "vip": winner["vip"] or loser["vip"],
        "blocked": winner["blocked"] or loser["blocked"],
        "attributes": {**loser["attributes"], **winner["attributes"]},
        "search_text": normalize([winner["search_text"], loser["search_text"]]),
        "updated_at": uow.now,
    }
    await uow.update(contact, winner_id, joined)
    await uow.update(contact, loser_id, {"merged_into_id": winner_id, "updated_at": uow.now})
    await uow.emit(
        DomainEvent(
            kind="contact.merged",
            subject_kind="contact",
            subject_id=winner_id,
            actor=actor,
            audience=EVERYONE,
            payload={
                "from": loser_id,
                "reason": reason,
                "moved": moved,
                "before": {
                    k: winner[k] for k in ("name", "locale", "timezone", "manager_id", "vip", "blocked")
                },
            },
            context={"winner_id": winner_id, "loser_id": loser_id},
        )
    )
    return {**winner, **joined}


async def update_contact(
    uow: UnitOfWork, contact_id: int, changes: dict[str, Any], *, actor: str
) -> dict[str, Any]:
    """Change columns of a card (name, company_id, manager_id, locale, timezone, vip, blocked, attributes).

    Raises NotFound, Conflict (the card was merged away: `params["merged_into_id"]`).
    """
    row = await uow.find(contact, contact_id, lock=True)
    if row is None:
        raise NotFound(f"no contact {contact_id}", params={"contact_id": contact_id})
    if row["merged_into_id"] is not None:
        raise Conflict(
            "this contact was merged into another",
            code="already_merged",
            params={"merged_into_id": row["merged_into_id"]},
        )
    real = {k: v for k, v in changes.items() if row[k] != v}
    if not real:
        return dict(row)
    after = {**row, **real}
    if "name" in real:
        addresses = await uow.rows(select(identity.c.value).where(identity.c.contact_id == contact_id))
        after["search_text"] = real["search_text"] = normalize(
            [after["name"], *(a["value"] for a in addresses)]
        )
    real["updated_at"] = uow.now
    await uow.update(contact, contact_id, real)
    shown = {k: [row[k], v] for k, v in real.items() if k not in ("updated_at", "search_text")}
    await uow.emit(
        DomainEvent(
            kind="contact.updated",
            subject_kind="contact",
            subject_id=contact_id,
            actor=actor,
            payload={"changes": shown},
            audience=EVERYONE,
            context={"contact": after},
        )
    )
    return after


async def set_reachable(uow: UnitOfWork, kind: str, value: str, account: str, *, reachable: bool) -> None:
    """Note that an address blocked us or takes messages again."""
    await uow.execute(
        update(identity)
        .where(identity.c.kind == kind, identity.c.value == value, identity.c.account == account)
        .values(unreachable_at=None if reachable else uow.now)
    )
