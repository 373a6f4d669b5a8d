"""Where blobs live: a directory, or an S3-compatible store by configuration."""

from collections.abc import AsyncIterator
from typing import Protocol


class FileStore(Protocol):
    async def put(self, key: str, content: AsyncIterator[bytes] | bytes) -> int:
        """Store under a key (written whole or not at all), return the size in bytes. Overwrites."""
        ...

    def get(self, key: str) -> AsyncIterator[bytes]:
        """Stream the content. Raises NotFound."""
        ...

    async def delete(self, key: str) -> None:
        """Remove; a missing key is fine."""
        ...
