"""What the core needs from outside, each with an embedded and a scaled implementation in `crm_core.infra`."""

from crm_core.ports.files import FileStore
from crm_core.ports.hints import Hints
from crm_core.ports.limits import RateLimiter

__all__ = ["FileStore", "Hints", "RateLimiter"]
