"""The embedded form: hints inside the process, limits in memory, blobs in a directory."""

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from crm_core.errors import NotFound

_CHUNK = 256 * 1024
_KEY = re.compile(r"[a-z0-9][a-z0-9/_.-]{0,180}", re.ASCII)


class LocalHints:
    """Hints for one process and one event loop."""

    def __init__(self) -> None:
        self._subscribers: dict[str, list[Callable[[str], None]]] = {}

    def publish(self, topic: str, payload: str = "") -> None:
        for callback in tuple(self._subscribers.get(topic, ())):
            callback(payload)

    def subscribe(self, topic: str, callback: Callable[[str], None]) -> Callable[[], None]:
        self._subscribers.setdefault(topic, []).append(callback)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._subscribers[topic].remove(callback)

        return end

    async def start(self) -> None:
        return

    async def close(self) -> None:
        self._subscribers.clear()


class MemoryLimiter:
    """GCRA in a dictionary, swept when it grows: one number a key, the time its bucket is full again."""

    def __init__(self, *, max_keys: int = 50_000) -> None:
        self._full_at: dict[str, float] = {}
        self._max_keys = max_keys

    async def take(self, key: str, *, per_s: float, burst: int, now: int) -> float:
        if len(self._full_at) > self._max_keys:
            self._full_at = {k: v for k, v in self._full_at.items() if v > now}
        cost_ms = 1000 / per_s
        full_at = max(self._full_at.get(key, 0.0), float(now))
        wait_ms = full_at - now - (burst - 1) * cost_ms
        if wait_ms > 0:
            return wait_ms / 1000
        self._full_at[key] = full_at + cost_ms
        return 0.0


class DirectoryFiles:
    """Blobs as files below one directory; written to a temporary name and renamed, so never half there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key) or ".." in key:
            raise ValueError(f"not a blob key: {key!r}")
        return self._root / key

    async def put(self, key: str, content: AsyncIterator[bytes] | bytes) -> int:
        path = self._path(key)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(6)}.part")
        size = 0
        try:
            with await asyncio.to_thread(draft.open, "wb") as file:
                if isinstance(content, bytes):
                    size = await asyncio.to_thread(file.write, content)
                else:
                    async for chunk in content:
                        size += await asyncio.to_thread(file.write, chunk)
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            await asyncio.to_thread(draft.replace, path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        return size

    async def get(self, key: str) -> AsyncIterator[bytes]:
        try:
            file = await asyncio.to_thread(self._path(key).open, "rb")
        except FileNotFoundError:
            raise NotFound("the file is gone from the store", params={"blob_key": key}) from None
        with file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk

    async def delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(self._path(key).unlink)
