"""Reservations per second, and how long one takes: over HTTP and in batches, beside PostgreSQL and Redis.

64 clients reserve one unit at a time, of one hot SKU and of 10,000, against every contestant behind an aiohttp front,
one after another on the same machine; each has had half a minute of it before, in which a JVM compiles what is hot.
Then Stockweave alone: the batch call with 80 % of its entries on 100 SKUs, and 500 reservations a second, quietly and
while a catalogue of a million updates is being ingested. The last line is the ratio of the hot SKU over HTTP to
PostgreSQL's SELECT ... FOR UPDATE at equal durability.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing as mp
import random
import statistics
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

import aiohttp
import orjson
import uvloop

from benchmarks.clients import Body, Clients
from benchmarks.figures import line, machine, quantile
from benchmarks.peers.reserve_peers import PEERS, UNITS, running
from benchmarks.table import table
from stockweave.errors import Fatal
from tests.system.stack import Stack

RESERVE, BATCH = "/api/v1/inventory/reserve", "/api/v1/reservations:batch"
HOT = "hot"
MANY = [f"sku-{n:05}" for n in range(10_000)]
CLIENTS, FIRST_WARM_UP_S, WARM_UP_S = 64, 30.0, 3.0
BATCH_CLIENTS, BATCH_ENTRIES = 4, 500
OFTEN, OFTEN_SHARE = 100, 0.8
RATE = 500
RATIO_MIN, BATCH_MIN, P50_MS_MAX, P99_MS_MAX, BUSY_P99_MS_MAX = 3.0, 15_000, 25.0, 60.0, 150.0


def main(arguments: list[str]) -> int:
    """The command; 1 when a bar is missed."""
    options = _options(arguments)
    print(machine(), flush=True)
    rates: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="stockweave-bench-") as folder:
        for peer in PEERS if options.peers else ():
            with running(peer, Path(folder), [HOT, *MANY]) as url:
                rates[peer.name] = _rates(peer.name, url, options)
        with Stack(Path(folder) / "stockweave", workers=1) as stack:
            _stock(stack.url)
            rates["Stockweave"] = _rates("Stockweave", stack.url, options)
            held = _alone(stack, options)
    print(_table(rates))
    if not options.peers:
        return 0 if held else 1
    ratio = statistics.median(rates["Stockweave"][0]) / statistics.median(rates[PEERS[0].name][0])
    print(f"ratio={ratio:.2f}")
    return 0 if held and ratio >= RATIO_MIN else 1


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks reserve", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--runs", type=int, default=3, help="of each; the median counts")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="Stockweave alone")
    parser.add_argument("--updates", type=int, default=1_000_000, help="of the catalogue that is ingested meanwhile")
    return parser.parse_args(arguments)


def _rates(name: str, url: str, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    """Reservations per second of one hot SKU, and of many, run by run."""
    found: tuple[list[float], list[float]] = ([], [])
    uvloop.run(Clients(url, RESERVE, _bodies([HOT], "warm-up"), CLIENTS).closed_loop(FIRST_WARM_UP_S, 1.0))
    for skus, rates in zip(([HOT], MANY), found, strict=True):
        for run in range(options.runs):
            clients = Clients(url, RESERVE, _bodies(skus, f"{len(skus)}-{run}"), CLIENTS)
            rates.append(uvloop.run(clients.closed_loop(WARM_UP_S, options.seconds)))
            if set(clients.statuses) != {201}:
                raise Fatal(f"{name} answered {dict(clients.statuses)}; every one has to be 201")
            what = "one hot SKU" if len(skus) == 1 else f"{len(skus):,} SKUs"
            print(f"{name}, {what}: {rates[-1]:,.0f}/s")
            print(line("  request to answer", clients.seconds), flush=True)
    return found


def _bodies(skus: Sequence[str], run: str) -> Iterator[Body]:
    rng = random.Random(run)
    prefix = f"{run}-{rng.getrandbits(48):x}"
    n = 0
    while True:
        n += 1
        body = orjson.dumps({"sku": rng.choice(skus), "quantity": 1, "orderId": f"order-{n}"})
        yield f"Idempotency-Key: {prefix}-{n}\r\n".encode(), body


def _batches() -> Iterator[Body]:
    rng = random.Random(1)
    often, prefix, n = MANY[:OFTEN], f"{rng.getrandbits(48):x}", 0
    while True:
        entries = []
        for _ in range(BATCH_ENTRIES):
            n += 1
            sku = rng.choice(often if rng.random() < OFTEN_SHARE else MANY)
            key, order = f"{prefix}-{n}", f"order-{n}"
            entries.append({"sku": sku, "quantity": 1, "orderId": order, "idempotency_key": key})
        yield b"", orjson.dumps({"reservations": entries})


def _alone(stack: Stack, options: argparse.Namespace) -> bool:
    """The bars that are Stockweave's own; whether all are held."""
    batch = []
    for _ in range(options.runs):
        clients = Clients(stack.url, BATCH, _batches(), BATCH_CLIENTS)
        batch.append(BATCH_ENTRIES * uvloop.run(clients.closed_loop(WARM_UP_S, options.seconds)))
        if set(clients.statuses) != {200}:
            raise Fatal(f"the batch call answered {dict(clients.statuses)}")
        print(f"batches of {BATCH_ENTRIES}: {batch[-1]:,.0f} reservations/s", flush=True)
    quiet = [_steady(stack.url, options.seconds, "quietly") for _ in range(options.runs)]
    busy = []
    for run in range(options.runs):
        feeding = mp.get_context("spawn").Process(target=_feed, args=(stack.url, options.updates, run))
        feeding.start()
        busy.append(_steady(stack.url, options.seconds, "while a catalogue comes", feeding))
        feeding.join()
        if feeding.exitcode:
            raise Fatal("the catalogue did not come; see above")
    p50, p99 = (statistics.median(quantile(run, q) * 1e3 for run in quiet) for q in (0.5, 0.99))
    busy_p99 = statistics.median(quantile(run, 0.99) * 1e3 for run in busy)
    bars = [
        ("batch call, reservations/s", statistics.median(batch), BATCH_MIN, True),
        (f"p50 at {RATE}/s, ms", p50, P50_MS_MAX, False),
        (f"p99 at {RATE}/s, ms", p99, P99_MS_MAX, False),
        (f"p99 at {RATE}/s while a catalogue comes, ms", busy_p99, BUSY_P99_MS_MAX, False),
    ]
    for name, found, bar, more in bars:
        held = found >= bar if more else found < bar
        print(f"{name}: {found:,.1f}, bar {bar:,.0f}: {'held' if held else 'missed'}")
    return all(found >= bar if more else found < bar for _, found, bar, more in bars)


def _steady(url: str, seconds: float, how: str, feeding: BaseProcess | None = None) -> list[float]:
    clients = Clients(url, RESERVE, _bodies(MANY, f"steady-{random.random()}"), CLIENTS)
    uvloop.run(clients.open_loop(RATE, 1.0, seconds))
    if set(clients.statuses) != {201}:
        raise Fatal(f"at {RATE}/s it answered {dict(clients.statuses)}")
    if feeding is not None and not feeding.is_alive():
        how += " (it was there before the end)"
    print(line(f"{RATE}/s {how}", clients.seconds), flush=True)
    return clients.seconds


def _stock(url: str) -> None:
    lines = [_update(sku, UNITS, "stock") for sku in (HOT, *MANY)]
    token = asyncio.run(_post_lines(url, "acme", lines))
    with urllib.request.urlopen(f"{url}/api/v1/inventory?sku={HOT}&min_offset={token}") as answer:
        answer.read()


def _feed(url: str, updates: int, run: int) -> None:
    """A catalogue of another supplier's, over other SKUs and these."""
    rng = random.Random(run)
    for first in range(0, updates, 10_000):
        names = (f"sku-{rng.randrange(50_000):05}" for _ in range(min(10_000, updates - first)))
        lines = [_update(name, rng.randrange(100), f"{run}-{first}-{n}") for n, name in enumerate(names)]
        asyncio.run(_post_lines(url, "catalogue", lines))


def _update(sku: str, quantity: int, update_id: str) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return orjson.dumps({"sku": sku, "quantity": quantity, "updateId": update_id, "kind": "COUNT", "timestamp": now})


async def _post_lines(url: str, supplier: str, lines: Sequence[bytes]) -> str:
    path = f"{url}/api/v1/suppliers/{supplier}/inventory-batch-update"
    async with (
        aiohttp.ClientSession() as session,
        session.post(path, data=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"}) as answer,
    ):
        if answer.status not in (200, 202):
            raise Fatal(f"the catalogue was answered {answer.status}: {(await answer.text())[:300]}")
        return str((await answer.json())["token"])


def _table(rates: dict[str, tuple[list[float], list[float]]]) -> str:
    cells = [[name, *(f"{statistics.median(of_kind):,.0f}" for of_kind in found)] for name, found in rates.items()]
    return table(["reservations/s over HTTP, 64 clients", "one hot SKU", "10,000 SKUs"], cells)
