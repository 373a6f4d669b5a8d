"""Channel adapters: one module (or folder) a channel behind `channels.contract.Channel`.

`get_channel` imports an adapter only when an inbox uses it, because some SDKs are heavy.
"""

import sys
from functools import cache
from importlib import import_module

from channels.contract import Channel

#: channel key -> "module:class"
_ADAPTERS = {
    "telegram": "channels.telegram:TelegramChannel",
    "email": "channels.email:EmailChannel",
    "telephony": "channels.telephony:TelephonyChannel",
    "webchat": "channels.webchat:WebChatChannel",
    "form": "channels.form:FormChannel",
}

CHANNEL_KEYS = tuple(_ADAPTERS)


@cache
def get_channel(key: str) -> Channel:
    """The adapter for a channel key. Raises KeyError if there is none."""
    module, _, name = _ADAPTERS[key].partition(":")
    adapter = getattr(import_module(module), name)()
    if not isinstance(adapter, Channel):
        raise TypeError(f"{module}:{name} is not a Channel")
    return adapter


async def close_channels() -> None:
    """Close what the adapters used in this loop keep open."""
    for key in CHANNEL_KEYS:
        if _ADAPTERS[key].partition(":")[0] in sys.modules:
            await get_channel(key).close()


__all__ = ["CHANNEL_KEYS", "close_channels", "get_channel"]
