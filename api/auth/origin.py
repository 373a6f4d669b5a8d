"""Where a request really comes from: address, public URL, origin. Proxies are believed only if configured."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from aiohttp import web

from crm_core.services import AppSettings


def client_address(request: web.Request, settings: AppSettings) -> str:
    """The caller's IP address; X-Forwarded-For counts only as far as our own proxies wrote it."""
    address = request.remote or ""
    if not settings.trusted_proxies:
        return address
    hops = [
        part.strip() for line in request.headers.getall("X-Forwarded-For", []) for part in line.split(",")
    ]
    while hops and _trusted(address, settings.trusted_proxies):
        hop = hops.pop()
        if _parsed(hop) is None:
            break
        address = hop
    return address


def network_of(address: str) -> str:
    """The /24 (or /48) of an address: what a limit per address counts, as one household or bot has many."""
    parsed = _parsed(address)
    if parsed is None:
        return address[:64]
    return str(ip_network(f"{parsed}/{24 if parsed.version == 4 else 48}", strict=False))


def public_url(request: web.Request, settings: AppSettings) -> str:
    """The URL the caller used, as a provider signed it: our public address plus path and query as sent."""
    base = settings.public_url.rstrip("/")
    if not base:
        base = f"{request.scheme}://{request.host}"
    return base + request.raw_path if request.raw_path.startswith("/") else base + request.path_qs


def own_origin(request: web.Request, settings: AppSettings, origin: str) -> bool:
    """Whether this Origin is our own site."""
    if not origin or origin == "null":
        return False
    try:
        asked = urlsplit(origin)
        ours = urlsplit(settings.public_url)
        if (asked.scheme, asked.hostname, _port(asked)) == (ours.scheme, ours.hostname, _port(ours)):
            return True
        here = urlsplit(f"{asked.scheme}://{request.host}")
        return asked.scheme in ("http", "https") and (asked.hostname, _port(asked)) == (
            here.hostname,
            _port(here),
        )
    except ValueError:
        return False


def _port(parts: SplitResult) -> int | None:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(address.strip("[]"))
    except ValueError:
        return None


def _trusted(address: str, proxies: tuple[str, ...]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in ip_network(proxy, strict=False) for proxy in proxies)
