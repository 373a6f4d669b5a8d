"""Password hashes: argon2id, off the event loop, two at a time (each takes 64 MB and a fifth of a second)."""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from aiohttp import web
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from crm_core.errors import RateLimited

T = TypeVar("T")

_HASHER = PasswordHasher()
#: logins that may wait for their turn; more than that is an attack, not a morning
MAX_WAITING = 40


def hash_password(password: str) -> str:
    """The stored form. Blocks for a fifth of a second: for commands and set-up; servers use Passwords."""
    return _HASHER.hash(password)


def _matches(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


@cache
def _nobodys() -> str:
    return _HASHER.hash("nobody has this password")


class Passwords:
    """One per application."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(2)
        self._waiting = 0

    async def check(self, stored: str | None, password: str) -> bool:
        """Whether the password fits. Takes the same time for an unknown user (`stored` None).

        Raises RateLimited when too many wait.
        """
        hashed = stored if stored is not None else await asyncio.to_thread(_nobodys)
        return await self._in_turn(lambda: _matches(hashed, password)) and stored is not None

    async def hash(self, password: str) -> str:
        """The stored form. Raises RateLimited when too many wait."""
        return await self._in_turn(lambda: _HASHER.hash(password))

    async def _in_turn(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise RateLimited("too many logins at once", retry_after_s=5)
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def needs_rehash(stored: str) -> bool:
    return _HASHER.check_needs_rehash(stored)


PASSWORDS = web.AppKey("passwords", Passwords)
