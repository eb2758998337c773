"""Sends windows of requests to the push endpoint: few connections, many lines each.

Invariant: a supplier belongs to one lane, and a lane has one request in flight, so the order within a supplier is
kept, also when a request is sent again. Called by `command`, benchmarks and the chaos runner.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stockweave.demo.client import Answer, Client
from stockweave.demo.windows import Request
from stockweave.errors import Fatal, Retriable

_QUEUED_PER_LANE_MAX = 64  # requests; about one window over all lanes
_ERRORS_KEPT_MAX = 10


@dataclass
class Report:
    """What was sent and what was answered, in events unless said otherwise.

    `tried_again`: calls that had to be repeated; `errors`: the first refused lines, with their supplier; `offsets`:
    the highest offset answered, by partition; `cpu_s`: this process's CPU time.
    """

    events: int = 0
    accepted: int = 0
    rejected: int = 0
    requests: int = 0
    body_bytes: int = 0
    tried_again: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    errors: list[dict[str, Any]] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)

    @property
    def token(self) -> str:
        """For `min_offset`: the view has seen all that was sent once it has passed this."""
        return ",".join(f"{partition}-{offset}" for partition, offset in sorted(self.offsets.items()))

    def add(self, request: Request, answer: Answer) -> None:
        """Count one settled request. Raises `Fatal` when its answer does not account for every line."""
        accepted, rejected = answer.get("accepted", -1), answer.get("rejected", -1)
        if accepted + rejected != request.lines:
            raise Fatal(
                f"{request.supplier_id}: of {request.lines} lines sent, {accepted} were accepted and {rejected} "
                "rejected: the service lost count; stop and look at its log"
            )
        self.events += request.lines
        self.accepted += accepted
        self.rejected += rejected
        self.requests += 1
        self.body_bytes += len(request.body)
        for error in answer.get("errors", [])[: _ERRORS_KEPT_MAX - len(self.errors)]:
            self.errors.append({"supplierId": request.supplier_id, **error})
        for part in filter(None, (answer.get("token") or "").split(",")):
            partition, offset = map(int, part.split("-"))
            self.offsets[partition] = max(offset, self.offsets.get(partition, -1))


class _Lanes:
    """The lanes and which supplier goes to which; each drains its own bounded queue."""

    def __init__(self, count: int) -> None:
        self.queues: list[asyncio.Queue[Request | None]] = [asyncio.Queue(_QUEUED_PER_LANE_MAX) for _ in range(count)]
        self._lines = [0] * count
        self._of: dict[str, int] = {}

    async def put(self, request: Request) -> None:
        """Queue it on its supplier's lane; a new supplier goes to the lane with the least lines so far."""
        lane = self._of.get(request.supplier_id)
        if lane is None:
            lane = self._of[request.supplier_id] = min(range(len(self._lines)), key=self._lines.__getitem__)
        self._lines[lane] += request.lines
        await self.queues[lane].put(request)

    async def close(self) -> None:
        for queue in self.queues:
            await queue.put(None)


async def feed(
    windows: Iterable[list[Request]],
    url: str,
    *,
    concurrency: int = 8,
    patience_s: float = 120,
    progress: Callable[[int], None] = lambda _: None,
) -> Report:
    """Send every request, each until it is settled.

    Args:
        windows: as `stockweave.demo.windows.windows` makes them; read one ahead, in a thread.
        url: the service.
        concurrency: lanes, each with one connection and one request in flight.
        patience_s: how long one request is tried while the service is away, in seconds.
        progress: called with the events of each settled request.

    Raises `Retriable` when patience ends, `Rejected` when a whole request is refused, `Fatal` when answers and lines
    do not add up. Refused lines raise nothing: they are counted in the report.
    """
    report, lanes = Report(), _Lanes(concurrency)
    started, cpu_started = time.monotonic(), time.process_time()
    async with Client(url, concurrency, patience_s) as client:

        async def drain(queue: asyncio.Queue[Request | None]) -> None:
            while (request := await queue.get()) is not None:
                path = f"/api/v1/suppliers/{request.supplier_id}/inventory-batch-update"
                report.add(request, await client.post_ndjson(path, request.body))
                progress(request.lines)

        try:
            async with asyncio.TaskGroup() as tasks:
                for queue in lanes.queues:
                    tasks.create_task(drain(queue))
                await _fill(lanes, iter(windows))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # the others are the same outage, seen by other lanes
        report.tried_again = client.tried_again
    report.seconds, report.cpu_s = time.monotonic() - started, time.process_time() - cpu_started
    return report


async def _fill(lanes: _Lanes, windows: Iterator[list[Request]]) -> None:
    while (window := await asyncio.to_thread(next, windows, None)) is not None:
        for request in window:
            await lanes.put(request)
    await lanes.close()


async def settle(url: str, token: str, sku: str, patience_s: float = 120) -> float:
    """Wait until the service's view has passed `token`, by reading `sku`; returns the seconds that it took.

    Raises `Retriable` when it has not after `patience_s` seconds.
    """
    started = time.monotonic()
    async with Client(url, 1, patience_s) as client:
        try:
            await client.get("/api/v1/inventory", {"sku": sku, "min_offset": token})
        except Retriable as e:
            raise Retriable(
                f"the view has not passed {token} after {patience_s:.0f} s: is a worker running? ({e})"
            ) from e
    return time.monotonic() - started
