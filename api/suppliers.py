"""The routes that tell how suppliers do: each feed's health with its score, and what became of what they pushed.

Health is what the connectors count (`schemas.feed_health`); freshness and score are as of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from aiohttp import hdrs, web
from msgspec import Meta, Struct

from api.answers import IDS, Time, encode_json, rfc3339
from api.params import Params, identifier
from api.system import Outcomes
from api.view import View
from inventory import reliability
from schemas.feed_health import FeedHealth
from stockweave import problems
from stockweave.problems import problem

ROOT = "/api/v1/suppliers"

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class ScoreAnswer(Struct):
    """The parts of a score, of the last 24 hours; docs/connectors/health.md explains each."""

    value: Annotated[Share, Meta(description="answered x accepted x consistent x timely x fresh.")]
    answered: Annotated[Share, Meta(description="(polls - failures - held_back + 9) / (polls + 10).")]
    accepted: Annotated[Share, Meta(description="(rows - rejected + 9) / (rows + 10).")]
    consistent: Annotated[Share, Meta(description="(rows - corrections + 9) / (rows + 10).")]
    timely: Annotated[Share, Meta(description="1 / (1 + lag_ms / 6 hours).")]
    fresh: Annotated[
        Share, Meta(description="1 up to 2 intervals after the last poll that went well, falling to 0 at 10.")
    ]


class FeedAnswer(Struct):
    """A feed's health; counts are of the last 24 hours."""

    feed: str
    score: ScoreAnswer
    breaker: Annotated[
        str,
        Meta(description="CLOSED: it is read; OPEN: its supplier is down; HALF_OPEN: one feed tries whether it is."),
    ]
    expected_ms: Annotated[Count, Meta(description="The longest between two polls, by its rhythm.")]
    polled_at: Annotated[Time | None, Meta(description="When it was last read without a failure.")]
    age_ms: Annotated[Count | None, Meta(description="The time since then.")]
    rows_at: Annotated[Time | None, Meta(description="When rows of it last reached Kafka.")]
    polls: Annotated[Count, Meta(description="Without those that failed by a fault that is not the supplier's.")]
    failures: Count
    held_back: Annotated[Count, Meta(description="Snapshots that had to wait for a person.")]
    rows: Count
    rejected: Annotated[Count, Meta(description="Rows that became dead letters.")]
    corrections: Annotated[Count, Meta(description="Rows with another count than before for the same SKU and time.")]
    lag_ms: Annotated[
        Count | None, Meta(description="From the newest time in a document until Kafka had it; the mean.")
    ]
    lag_max_ms: Count | None
    clock_ahead_ms: Annotated[Count, Meta(description="By how much a time was later than its receipt, at most.")]
    told_at: Annotated[Time, Meta(description="When its connector told all this.")]


class SupplierHealth(Struct, rename=IDS):
    """A supplier's health."""

    supplier_id: str
    score: Annotated[
        Share | None, Meta(description="The lowest of its feeds; null where it has none, for nothing is expected then.")
    ]
    feeds: list[FeedAnswer]
    outcomes: Annotated[
        Outcomes | None,
        Meta(description="Of all its events since the beginning, pushed ones too; null: none was folded."),
    ]


class SupplierSummary(Struct, rename=IDS):
    """A supplier in the list."""

    supplier_id: str
    score: Share | None
    feeds: Count


class Suppliers(Struct):
    """All suppliers of which anything was heard, by their ids."""

    suppliers: list[SupplierSummary]


class SupplierRoutes:
    """Answers about the suppliers of a view."""

    def __init__(self, view: View) -> None:
        self._view = view

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        for path, told in ((ROOT, self.suppliers), (ROOT + "/{supplier:.+}/health", self.health)):
            app.router.add_get(path, told, expect_handler=problems.expectation)
            app.router.add_route("*", path, _not_allowed)  # else it would be for what is mounted below the path

    async def suppliers(self, request: web.Request) -> web.Response:
        """GET /api/v1/suppliers."""
        Params(request.query, ())
        now_ms = self._view.clock.now_ms()
        feeds, names = self._feeds(now_ms), {name for name in self._view.outcomes() if name}
        found = [
            SupplierSummary(name, reliability.lowest(feeds.get(name, []), now_ms), len(feeds.get(name, [])))
            for name in sorted(names | set(feeds))
        ]
        return _json(Suppliers(found))

    async def health(self, request: web.Request) -> web.Response:
        """GET /api/v1/suppliers/{supplier}/health."""
        Params(request.query, ())
        supplier = identifier("supplier", request.match_info["supplier"])
        now_ms = self._view.clock.now_ms()
        feeds, counts = self._feeds(now_ms).get(supplier, []), self._view.outcomes().get(supplier)
        if not feeds and counts is None:
            detail = f"nothing was ever heard of supplier {supplier!r}; {ROOT} lists those known"
            return problem(404, "unknown_supplier", detail, supplier=supplier)
        answers = [_feed(each, now_ms) for each in sorted(feeds, key=lambda each: each.feed)]
        outcomes = None if counts is None else Outcomes(*counts)
        return _json(SupplierHealth(supplier, reliability.lowest(feeds, now_ms), answers, outcomes))

    def _feeds(self, now_ms: int) -> Mapping[str, list[FeedHealth]]:
        return reliability.by_supplier(self._view.feeds.current.values(), now_ms)


async def _not_allowed(request: web.Request) -> web.Response:
    raise web.HTTPMethodNotAllowed(request.method, (hdrs.METH_GET, hdrs.METH_HEAD))


def _feed(health: FeedHealth, now_ms: int) -> FeedAnswer:
    seen = health.window(now_ms)
    score = reliability.score(health, now_ms)
    return FeedAnswer(
        feed=health.feed,
        score=ScoreAnswer(*(round(part, 4) for part in score)),
        breaker=health.breaker,
        expected_ms=health.expected_ms,
        polled_at=_time(health.polled_at),
        age_ms=max(0, now_ms - health.polled_at) if health.polled_at else None,
        rows_at=_time(health.rows_at),
        polls=seen.polls,
        failures=seen.failures,
        held_back=seen.held_back,
        rows=seen.rows,
        rejected=seen.rejected,
        corrections=seen.corrections,
        lag_ms=seen.lag_ms // seen.documents if seen.documents else None,
        lag_max_ms=seen.lag_ms_max if seen.documents else None,
        clock_ahead_ms=seen.ahead_ms_max,
        told_at=rfc3339(health.at_ms),
    )


def _time(ms: int) -> str | None:
    return rfc3339(ms) if ms else None


def _json(body: Struct) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(body=encode_json(body), content_type="application/json", headers=headers)
