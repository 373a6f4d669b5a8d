"""Who a visitor is: a token we signed for anonymous ones, the site's JWT for its users.

A person proven by JWT keeps one thread on all devices; whoever is logged out of the site, or logs in as somebody else,
never sees the thread of the one before.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

import jwt
from sqlalchemy import select

from crm_core import contacts
from crm_core.clock import HOUR, MINUTE
from crm_core.db.uow import UnitOfWork
from crm_core.envelope import IdentityClaim, IdentityKind
from crm_core.errors import Unauthorized
from crm_core.schema import contact, conversation, identity

#: a site's JWT may live so long, and its clock may be so far ahead of ours
MAX_JWT_MS = HOUR
LEEWAY_MS = MINUTE
MAX_JWT_CHARS = 4_000


def sign_visitor(secret_key: bytes, inbox_key: str, visitor_id: str) -> str:
    """The visitor token: who has it is this anonymous visitor."""
    return f"{visitor_id}.{_mac(secret_key, inbox_key, visitor_id)}"


def read_visitor(secret_key: bytes, inbox_key: str, token: str) -> str | None:
    """The visitor of a token of ours for this inbox; None for any other text."""
    visitor_id, dot, mac = token.partition(".")
    good = dot and hmac.compare_digest(
        mac.encode("utf-8", "surrogateescape"), _mac(secret_key, inbox_key, visitor_id).encode()
    )
    return visitor_id if good else None


def _mac(secret_key: bytes, inbox_key: str, visitor_id: str) -> str:
    text = f"visitor\n{inbox_key}\n{visitor_id}".encode("utf-8", "surrogateescape")
    return base64.urlsafe_b64encode(hmac.new(secret_key, text, hashlib.sha256).digest()).decode().rstrip("=")


def subject_of_jwt(account: Mapping[str, Any], token: str, *, now: int) -> str:
    """The `sub` of the site's JWT: HS256 with the inbox's key, `aud` the inbox key, alive for at most an hour.

    Raises Unauthorized with code bad_identity.
    """
    if len(token) > MAX_JWT_CHARS:
        raise Unauthorized("identity_jwt is too long", code="bad_identity")
    key = str(account["config"].get("jwt_secret") or account["secret"])
    try:
        # Expiry is checked below, against our own clock.
        claims = jwt.decode(
            token,
            key,
            algorithms=["HS256"],
            audience=account["key"],
            options={
                "require": ["exp", "sub", "aud"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
        subject, expires = claims["sub"], int(claims["exp"]) * 1000
        issued = int(claims.get("iat", 0)) * 1000
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
        raise Unauthorized(
            f"identity_jwt is not valid: {type(error).__name__}", code="bad_identity"
        ) from error
    if issued > now + LEEWAY_MS:
        raise Unauthorized("identity_jwt is of the future: look at the site's clock", code="bad_identity")
    if not now < expires <= now + MAX_JWT_MS + LEEWAY_MS:
        raise Unauthorized("identity_jwt has expired, or lives longer than an hour", code="bad_identity")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 200 or "\x00" in subject:
        raise Unauthorized("identity_jwt needs a subject of 1 to 200 characters", code="bad_identity")
    return subject


async def choose_visitor(
    uow: UnitOfWork, account: Mapping[str, Any], *, anonymous: str | None, subject: str | None
) -> str:
    """The visitor id to go on with: the one known by the subject, else the anonymous one if it is nobody else's,
    else a new one.
    """
    bound = await _subject_of_visitor(uow, account, anonymous) if anonymous else None
    fresh = secrets.token_urlsafe(18)
    if subject is None:
        return anonymous if anonymous is not None and bound is None else fresh
    known = await _visitor_of_subject(uow, account, subject)
    if known is None:
        return anonymous if anonymous is not None and bound in (None, subject) else fresh
    if anonymous is not None and bound is None and anonymous != known:
        await _join(uow, account, anonymous, subject)
    return known


async def _contact_of(uow: UnitOfWork, kind: IdentityKind, value: str, account: str) -> dict[str, Any] | None:
    row = await uow.row(
        select(contact)
        .join(identity, identity.c.contact_id == contact.c.id)
        .where(identity.c.kind == kind.value, identity.c.value == value, identity.c.account == account)
    )
    return dict(row) if row else None


async def _subject_of_visitor(uow: UnitOfWork, account: Mapping[str, Any], visitor_id: str) -> str | None:
    person = await _contact_of(uow, IdentityKind.VISITOR, visitor_id, account["key"])
    if person is None:
        return None
    found = await uow.scalar(
        select(identity.c.value)
        .where(
            identity.c.contact_id == person["id"],
            identity.c.kind == IdentityKind.EXTERNAL.value,
            identity.c.account == account["key"],
        )
        .limit(1)
    )
    return str(found) if found is not None else None


async def _visitor_of_subject(uow: UnitOfWork, account: Mapping[str, Any], subject: str) -> str | None:
    person = await _contact_of(uow, IdentityKind.EXTERNAL, subject, account["key"])
    if person is None:
        return None
    found = await uow.scalar(
        select(conversation.c.key)
        .where(conversation.c.contact_id == person["id"], conversation.c.inbox_id == account["id"])
        .order_by(conversation.c.updated_at.desc())
        .limit(1)
    )
    return str(found) if found is not None else None


async def _join(uow: UnitOfWork, account: Mapping[str, Any], visitor_id: str, subject: str) -> None:
    """What he wrote before he logged in belongs to the same person's card."""
    person = await _contact_of(uow, IdentityKind.VISITOR, visitor_id, account["key"])
    if person is not None:
        claim = IdentityClaim(
            IdentityKind.EXTERNAL, subject, verified=True, evidence="jwt", account=account["key"]
        )
        await contacts.add_identity(uow, person, claim)
