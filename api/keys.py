"""Typed keys of what the application carries."""

import asyncio

from aiohttp import web

from crm_core.inboxes import InboxCache
from crm_core.services import Services

SERVICES = web.AppKey("services", Services)
#: whether answers are validated against the document; on in tests only
CHECK_ANSWERS = web.AppKey("check_answers", bool)
#: inboxes by their public key, for hooks and chats
INBOXES = web.AppKey("inboxes", InboxCache)
#: set when the server is going down: whoever waits answers now
STOPPING = web.AppKey("stopping", asyncio.Event)
