"""The routes that operators and probes ask: alive, ready, metrics, and what became of each supplier's events."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from importlib.metadata import version

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from msgspec import Struct
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

from api.answers import IDS, Time, encode_json, rfc3339
from api.partition import ViewPartition
from api.view import View
from schemas.rows import OUTCOMES
from schemas.topics import UPDATES
from stockweave import metrics, problems


class Health(Struct):
    """The process is alive."""

    status: str
    version: str


ALIVE = Health("ok", version("stockweave"))


class Outcomes(Struct):
    """Events folded since the beginning; every event ended as exactly one of these."""

    applied: int
    duplicate: int
    superseded: int
    rejected: int


class PartitionState(Struct):
    """How far a partition of inventory.stock is in the view."""

    partition: int
    caught_up: bool
    next_offset: int
    end: int | None
    lag: int | None
    updates_next_offset: int
    events: int


class NextGeneration(Struct):
    """The generation of rows that comes next, followed beside the one that is served."""

    generation: str
    number: int
    live: bool
    partitions: list[PartitionState]


class Readiness(Struct):
    """Whether reads are answered, from which generation of the rows, and how far the view is."""

    ready: bool
    generation: str
    number: int
    confirmed_at: Time | None
    partitions: list[PartitionState]
    outcomes: Outcomes
    next: NextGeneration | None


class SupplierOutcomes(Outcomes, rename=IDS, kw_only=True):
    """What became of a supplier's events; the supplier '' stands for what named none."""

    supplier_id: str


class Stats(Struct):
    """What became of every event, as far as the view has read."""

    generation: str
    outcomes: Outcomes
    suppliers: list[SupplierOutcomes]


class SystemRoutes:
    """Answers about a view."""

    def __init__(self, view: View) -> None:
        self._view = view

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_get("/healthz", self.health, expect_handler=problems.expectation)
        app.router.add_get("/readyz", self.ready, expect_handler=problems.expectation)
        app.router.add_get("/metrics", _metrics(make_aiohttp_handler(_registry())), expect_handler=problems.expectation)
        app.router.add_get("/api/v1/stats", self.stats, expect_handler=problems.expectation)

    async def health(self, request: web.Request) -> web.Response:
        """GET /healthz."""
        return _json(ALIVE)

    async def ready(self, request: web.Request) -> web.Response:
        """GET /readyz: 200 once every partition can be read, else 503."""
        view = self._view
        ready, served = view.caught_up, view.served.topic
        following = None
        if view.next is not None:
            successor, live = view.next
            topic = successor.topic
            following = NextGeneration(topic.generation, topic.number, live, _states(successor.partitions))
        confirmed_at = rfc3339(view.heard_at_ms) if view.heard_at_ms else None
        states = _states(view.partitions)
        body = Readiness(ready, served.generation, served.number, confirmed_at, states, self._total(), following)
        return _json(body, 200 if ready else 503)

    async def stats(self, request: web.Request) -> web.Response:
        """GET /api/v1/stats."""
        suppliers = [
            SupplierOutcomes(*counts, supplier_id=supplier)
            for supplier, counts in sorted(self._view.outcomes().items())
        ]
        return _json(Stats(self._view.generation, self._total(), suppliers))

    def _total(self) -> Outcomes:
        by_supplier = self._view.outcomes().values()
        return Outcomes(*(sum(counts[i] for counts in by_supplier) for i in range(len(OUTCOMES))))


def _states(partitions: Iterable[ViewPartition]) -> list[PartitionState]:
    return [
        PartitionState(
            p.number,
            p.caught_up,
            p.mark.next_offset,
            p.end,
            None if p.end is None else p.lag,
            p.next_offset(UPDATES.name),
            0 if p.position is None else p.position.events(),
        )
        for p in partitions
    ]


@web.middleware
async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and time every request by its route; the outermost, so that it sees what is answered."""
    began_s = time.perf_counter()
    response = await handler(request)
    resource = request.match_info.route.resource
    route = "none" if resource is None else resource.canonical
    metrics.HTTP_SECONDS.labels(route).observe(time.perf_counter() - began_s)
    metrics.HTTP_REQUESTS.labels(route, str(response.status)).inc()
    return response


def _metrics(told: Handler) -> Handler:
    """GET /metrics. What a client wants that cannot be read is passed over, as RFC 9110 (12.5.1) allows."""

    async def metrics_told(request: web.Request) -> web.StreamResponse:
        try:
            choose_encoder(",".join(request.headers.getall(hdrs.ACCEPT, [])))
        except TypeError:  # of a version that is no number
            request = request.clone(headers={k: v for k, v in request.headers.items() if k != hdrs.ACCEPT})
        return await told(request)

    return metrics_told


def _registry() -> CollectorRegistry:
    """All processes of this machine where they share a folder, else this process."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _json(body: Struct, status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": "1"} if status == 503 else {})
    return web.Response(body=encode_json(body), status=status, content_type="application/json", headers=headers)
