"""Which channels there are, by key: each a module or package `channels.<key>` with one adapter class.

A channel's module is imported when an inbox first uses it, so that heavy SDKs cost only those who need them.
"""

import inspect
import pkgutil
from importlib import import_module

import channels
from channels.contract import Channel, NotConfigured

#: modules of this package that are no channels
_OTHERS = frozenset({"config", "contract", "registry", "wire"})


def channel_keys() -> list[str]:
    """Keys of all channels, without importing any."""
    return sorted(m.name for m in pkgutil.iter_modules(channels.__path__) if m.name not in _OTHERS)


class Channels:
    """The adapters of one process; one instance of each, made when first asked for."""

    def __init__(self) -> None:
        self._made: dict[str, Channel] = {}

    def get(self, key: str) -> Channel:
        """Raises NotConfigured for an unknown channel."""
        found = self._made.get(key)
        if found is None:
            if key not in channel_keys():
                raise NotConfigured(f"there is no channel {key!r}")
            found = self._made[key] = _load(key)
        return found

    async def close(self) -> None:
        """End what adapters keep open."""
        for adapter in self._made.values():
            closing = getattr(adapter, "close", None)
            if closing is not None:
                await closing()


def _load(key: str) -> Channel:
    module = import_module(f"channels.{key}")
    for member in vars(module).values():
        if inspect.isclass(member) and issubclass(member, Channel) and not inspect.isabstract(member):
            spec = getattr(member, "spec", None)
            if spec is not None and spec.key == key:
                return member()
    raise NotConfigured(f"channels.{key} has no adapter with this key")
