"""What Prometheus may ask, with templates instead of paths as labels: ids in labels would never end."""

import time

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from sqlalchemy import func, select

from api.keys import SERVICES
from api.layer.problems import Handler
from crm_core.schema import job


class Metrics:
    """One per application, with a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "switchboard_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "switchboard_http_request_seconds",
            "Time to answer",
            ["route"],
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
            registry=self.registry,
        )
        self.inbound = Counter(
            "switchboard_inbound_stored", "Raw rows stored", ["channel"], registry=self.registry
        )
        self.refused = Counter(
            "switchboard_hook_refused", "Hook requests refused", ["channel", "reason"], registry=self.registry
        )
        self.sockets = Gauge("switchboard_sockets", "Open WebSockets", ["kind"], registry=self.registry)
        self.dropped = Counter(
            "switchboard_sockets_dropped",
            "Sockets closed for reading too slowly",
            ["kind"],
            registry=self.registry,
        )
        self.jobs = Gauge("switchboard_jobs", "Jobs in the table", ["state"], registry=self.registry)


METRICS = web.AppKey("metrics", Metrics)


def route_of(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


@web.middleware
async def measured(request: web.Request, handler: Handler) -> web.StreamResponse:
    metrics = request.app[METRICS]
    route = route_of(request)
    # A duration, not an instant: the clock of the product may stand still in a test.
    begun = time.perf_counter()
    response = await handler(request)
    if not isinstance(response, web.WebSocketResponse):
        metrics.seconds.labels(route).observe(time.perf_counter() - begun)
    method = (
        request.method
        if request.method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        else "other"
    )
    metrics.requests.labels(method, route, str(response.status)).inc()
    return response


async def show_metrics(request: web.Request) -> web.Response:
    """GET /metrics"""
    metrics = request.app[METRICS]
    async with request.app[SERVICES].db.reading() as conn:
        counted = (await conn.execute(select(job.c.state, func.count()).group_by(job.c.state))).all()
    for state in ("ready", "leased", "dead"):
        metrics.jobs.labels(state).set(0)
    for state, number in counted:
        metrics.jobs.labels(state).set(number)
    return web.Response(
        body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    )
