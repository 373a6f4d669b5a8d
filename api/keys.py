"""Typed keys of what the application carries."""

from aiohttp import web

from channels.registry import Channels
from crm_core.services import Services

SERVICES = web.AppKey("services", Services)
#: whether answers are validated against the document; on in tests only
CHECK_ANSWERS = web.AppKey("check_answers", bool)
#: the adapters of this process
CHANNELS = web.AppKey("channels", Channels)
