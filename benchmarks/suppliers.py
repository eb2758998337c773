"""Two hundred REST suppliers, polled by one connectors' process, while a tenth of them fail: is any other one held up?

Of those that fail some answer 500, some nothing at all, some cut the connection. Each of the others is to be asked
every few seconds; how much later than that each request comes is what counts, as the suppliers' side sees it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path

import orjson
from aiohttp import web

from benchmarks.figures import line, machine, quantile
from benchmarks.kafka import own_broker
from benchmarks.peers.stockweave_worker import clean_environment, settings_of
from schemas.admin import ensure_topics
from stockweave.children import last_lines, spawn
from stockweave.errors import Fatal

ROWS = 20  # of each answer
DELAY_S_MAX = 0.5  # p99
PARTITIONS = 4
WARM_S = 10.0
STOP_S = 60.0

Arrivals = dict[int, list[float]]


def main(arguments: list[str]) -> int:
    """The command; 1 when the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks suppliers", description=__doc__)
    parser.add_argument("--suppliers", type=int, default=200, help="every tenth of them fails")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between the polls of each")
    parser.add_argument("--seconds", type=float, default=30.0, help="after ten of warming up")
    options = parser.parse_args(arguments)
    print(machine())
    with own_broker() as (broker, folder), _suppliers() as (port, seen):
        _configure(folder / "suppliers", options.suppliers, options.every, port)
        arrivals = _run(broker.bootstrap_servers, folder, options.seconds, seen)
    late = delays(arrivals, options.every)
    failing = sum(_fails(number) for number in arrivals)
    print(f"{len(arrivals):,} suppliers were asked, {failing} of them failed; {len(late):,} polls of the others")
    print(line("late", late))
    is_missed = not quantile(late, 0.99) < DELAY_S_MAX or len(arrivals) < options.suppliers
    print(f"p99 under {DELAY_S_MAX * 1_000:.0f} ms: {'missed' if is_missed else 'held'}")
    return 1 if is_missed else 0


def delays(arrivals: Arrivals, every_s: float) -> list[float]:
    """By how many seconds each poll of those that do not fail came later than it was due after the one before."""
    return [
        max(0.0, later - earlier - every_s)
        for number, at in arrivals.items()
        if not _fails(number)
        for earlier, later in pairwise(at)
    ]


def _fails(number: int) -> bool:
    return number % 10 == 0


def _configure(folder: Path, suppliers: int, every_s: float, port: int) -> None:
    folder.mkdir()
    for number in range(suppliers):
        source = {"kind": "rest", "url": f"http://127.0.0.1:{port}/{number}", "timeout_s": 10.0}
        mapping = {"version": 1, "sku": "$.sku", "quantity": "$.units"}
        poll = {"every_s": every_s}
        feed = {"source": source, "format": {"format": "json"}, "mapping": mapping, "poll": poll}
        (folder / f"s{number}.yaml").write_text(json.dumps({"supplier": f"s{number}", "feeds": {"stock": feed}}))


def _run(bootstrap_servers: str, folder: Path, seconds: float, seen: Connection) -> Arrivals:
    settings = settings_of(bootstrap_servers, f"bench-{uuid.uuid4().hex[:6]}.", PARTITIONS, folder)
    ensure_topics(settings, bootstrap_servers)
    environment = clean_environment() | {
        "STOCKWEAVE_BOOTSTRAP_SERVERS": bootstrap_servers,
        "STOCKWEAVE_TOPIC_PREFIX": settings.topic_prefix,
    }
    log = folder / "connectors.log"
    command = [sys.executable, "-m", "stockweave", "connectors", "run", str(folder / "suppliers")]
    process = spawn(command, log, environment)
    try:
        time.sleep(WARM_S)
        seen.send("begin")
        time.sleep(seconds)
        seen.send("end")
        if process.poll() is not None:
            raise Fatal("the process has ended; its log ends:\n" + "\n".join(last_lines(log, 10)))
        arrivals: Arrivals = seen.recv()
        return arrivals
    finally:
        process.terminate()
        process.wait(STOP_S)


@contextmanager
def _suppliers() -> Iterator[tuple[int, Connection]]:
    """All of them, as one server in a process of its own: its port, and where it tells what it saw."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        yield ours.recv(), ours
    finally:
        server.terminate()
        server.join(STOP_S)


def _serve(told: Connection) -> None:
    arrivals: dict[int, list[float]] = defaultdict(list)

    async def answer(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        arrivals[number].append(time.monotonic())
        if _fails(number):
            return await _failure(request, number // 10 % 3)
        units = len(arrivals[number])
        return web.Response(body=orjson.dumps([{"sku": f"a{number}-{n}", "units": units} for n in range(ROWS)]))

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{number}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        told.send(runner.addresses[0][1])
        await asyncio.to_thread(told.recv)
        arrivals.clear()
        await asyncio.to_thread(told.recv)
        told.send(dict(arrivals))
        await asyncio.Event().wait()

    asyncio.run(serve())


async def _failure(request: web.Request, how: int) -> web.Response:
    if how == 0:
        return web.Response(status=500)
    if how == 1:
        await asyncio.sleep(60)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
