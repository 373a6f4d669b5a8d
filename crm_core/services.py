"""What every edge gets from the composition root: the parts, ready made. Frozen; made once per process and loop."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from crm_core.clock import Clock
from crm_core.db.engine import Database
from crm_core.ports import FileStore, Hints, RateLimiter


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSettings:
    """The part of the settings that edges need; read once from the environment by `switchboard.settings`."""

    public_url: str
    secret_key: bytes
    data_dir: Path
    cookie_secure: bool = False
    trusted_proxies: tuple[str, ...] = ()
    max_upload_bytes: int = 10 * 1024 * 1024
    inbound_keep_days: int = 90
    #: hosts and networks that are not public and that webhooks may reach all the same
    webhook_private: tuple[str, ...] = ()
    version: str = "0"
    form: str = "embedded"  # embedded | scaled
    mail_host: str = "127.0.0.1"
    lmtp_port: int | None = None
    smtp_port: int | None = None
    demo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    db: Database
    clock: Clock
    hints: Hints
    files: FileStore
    limiter: RateLimiter
    http: aiohttp.ClientSession
    settings: AppSettings
    #: filled by the composition root with facts for pages: the demo's links, ports really bound …
    extra: dict[str, Any] = field(default_factory=dict)
