"""An email inbox's configuration as typed facts. Reads `InboxConfig.config`; knows no network."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from channels.contract import InboxConfig, NotConfigured
from channels.email.headers import normal_address


@dataclass(frozen=True, slots=True)
class Server:
    host: str
    port: int
    tls: str  # none | starttls | tls
    user: str
    password: str
    ca: str | None  # PEM text of a private certificate authority


def own_address(inbox: InboxConfig) -> str:
    """The inbox's address, normalised. Raises NotConfigured if there is none."""
    address = normal_address(str(inbox.config.get("address") or ""))
    if not address:
        raise NotConfigured("the email inbox has no valid address")
    return address


def own_addresses(inbox: InboxConfig) -> frozenset[str]:
    """The address and its aliases; empty if nothing valid is configured."""
    aliases = inbox.config.get("aliases") or ()
    if isinstance(aliases, str):
        aliases = re.split(r"[,;\s]+", aliases)
    candidates = [inbox.config.get("address"), *aliases]
    return frozenset(address for item in candidates if (address := normal_address(str(item or ""))))


def without_tag(address: str) -> str:
    """`support@x` of `support+anything@x`, lower case."""
    local, at, domain = address.lower().rpartition("@")
    return f"{local.partition('+')[0]}{at}{domain}"


def message_id_domain(inbox: InboxConfig) -> str:
    """The domain of the Message-IDs we make, in its ASCII form."""
    return ascii_domain(own_address(inbox).rpartition("@")[2])


def ascii_domain(domain: str) -> str:
    """A domain as it travels. Raises NotConfigured if it has no such form."""
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise NotConfigured(f"not a domain: {domain!r}") from error


def own_id_pattern(inbox: InboxConfig) -> re.Pattern[str]:
    """Matches the Message-IDs this inbox makes, and no others: colleagues write from the same domain."""
    domains = set()
    for address in own_addresses(inbox):
        try:
            domains.add(ascii_domain(address.rpartition("@")[2]))
        except NotConfigured:
            continue
    return _pattern(tuple(sorted(domains)))


@lru_cache(maxsize=256)
def _pattern(domains: tuple[str, ...]) -> re.Pattern[str]:
    if not domains:
        return re.compile(r"(?!)")
    return re.compile(rf"<message\.[A-Za-z0-9._-]{{1,128}}@(?:{'|'.join(map(re.escape, domains))})>")


def smtp_server(inbox: InboxConfig) -> Server:
    """Raises NotConfigured without `smtp_host`, or if a value makes no sense."""
    return _server(inbox.config, "smtp", {"none": 25, "starttls": 587, "tls": 465})


def imap_server(inbox: InboxConfig) -> Server | None:
    """None if IMAP is not configured. Raises NotConfigured if a value makes no sense."""
    if not inbox.config.get("imap_host"):
        return None
    server = _server(inbox.config, "imap", {"none": 143, "starttls": 143, "tls": 993})
    if not server.user:
        raise NotConfigured("imap_host needs imap_user and imap_password")
    return server


def _server(config: Mapping[str, Any], prefix: str, ports: Mapping[str, int]) -> Server:
    host = str(config.get(f"{prefix}_host") or "").strip()
    if not host:
        raise NotConfigured(f"{prefix}_host is not set")
    user = str(config.get(f"{prefix}_user") or "")
    given_port = config.get(f"{prefix}_port")
    tls = str(config.get(f"{prefix}_tls") or "").lower()
    if not tls:
        # Never a password in clear by default; a relay on this machine that wants none usually has no
        # certificate.
        tls = (
            "tls"
            if str(given_port) == str(ports["tls"]) or prefix == "imap"
            else "starttls"
            if user
            else "none"
        )
    if tls not in ports:
        raise NotConfigured(f"{prefix}_tls must be none, starttls or tls")
    try:
        port = int(given_port) if given_port not in (None, "") else ports[tls]
    except (TypeError, ValueError) as error:
        raise NotConfigured(f"{prefix}_port is not a number") from error
    if not 0 < port < 65_536:
        raise NotConfigured(f"{prefix}_port is out of range")
    ca = config.get("tls_ca")
    return Server(host, port, tls, user, str(config.get(f"{prefix}_password") or ""), str(ca) if ca else None)
