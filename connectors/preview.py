"""Looks at feeds without Kafka: what is wrong with their files, and what their first rows would become.

Called by `stockweave connectors check` and `try`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from connectors.budget import Budget
from connectors.configuration.load import Feed, load, refuse, well
from connectors.credentials.secret import ready, secrets_in
from connectors.documents import Document, Kind, Surroundings
from connectors.formats.reader import read_packed
from connectors.mapping.mapper import Mapper, Read
from stockweave.errors import Rejected, Retriable
from stockweave.world import SystemClock

SHOWN = ("sku", "location_id", "kind", "quantity", "basis", "observed_at", "update_id")
BYTES_MAX = 64 << 20  # of a document that is tried


class Tried(NamedTuple):
    """What the first rows came to: updates, and of each row that cannot be used its number, bytes and faults.

    `origins`: of the documents that they are from.
    """

    updates: list[dict[str, Any]]
    faults: list[tuple[int, bytes, str]]
    origins: list[str]


def check(path: Path, kinds: Mapping[str, Kind]) -> None:
    """Print each feed that is well, and which of its secrets are not here: they may be where it is to run.

    Raises:
        Rejected: with a line for each fault.
    """
    loaded = load(path, kinds)
    for name, feed in loaded.feeds.items():
        missing = "".join(f"; {why}" for why in _missing(feed.config))
        sys.stdout.write(f"{name}: {feed.config.source.kind}, {feed.config.format.format}: well{missing}\n")
    refuse(loaded)


def preview(path: Path, kinds: Mapping[str, Kind], name: str, rows: int, *, json: bool) -> None:
    """Print what a feed's first rows would become.

    Raises:
        Rejected: the configuration has faults, there is no such feed, or what it reads is of no use.
        Retriable: the supplier is away.
    """
    loaded = well(path, kinds)
    feed = loaded.feeds.get(name)
    if feed is None:
        raise Rejected("unknown_feed", f"there is no feed {name} in {path}; there are {', '.join(loaded.feeds)}")
    clock = SystemClock()
    budget = Budget(loaded.limits[feed.supplier], clock)
    around = Surroundings(feed.config.mapping.version, clock, budget, is_trial=True)
    tried = asyncio.run(_tried(feed, kinds[feed.config.source.kind], around, rows))
    if feed.config.mapping.sku_map is not None:
        sys.stderr.write("the map of SKUs is in Kafka, and is not read here: SKUs are the supplier's\n")
    if json:
        lines = [
            *tried.updates,
            *({"row": n, "original": o.decode(errors="replace"), "why": w} for n, o, w in tried.faults),
        ]
        sys.stdout.buffer.write(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    else:
        _show(tried, feed, Console())


def _missing(options: BaseModel) -> Iterator[str]:
    """Of the secrets within some options, those that cannot be read."""
    for secret in secrets_in(options):
        try:
            asyncio.run(secret.ready())
            secret.read()
        except Retriable as why:
            yield str(why)


async def _tried(feed: Feed, kind: Kind, around: Surroundings, rows: int) -> Tried:
    await ready(feed.config)
    source = kind.open(feed.config.source, around)
    tried = Tried([], [], [])
    try:
        async with contextlib.aclosing(source.read({})) as documents:
            async for document in documents:
                tried.origins.append(document.origin)
                try:
                    await _first_rows(feed, document, rows, tried)
                except Rejected as why:
                    raise Rejected(why.reason, f"document {document.origin}: {why}", why.field) from None
                if document.rows == 0 or len(tried.updates) + len(tried.faults) >= rows:
                    break
    finally:
        await source.close()
    return tried


async def _first_rows(feed: Feed, document: Document, rows: int, tried: Tried) -> None:
    blocks: list[bytes] = []
    if document.blocks is None:
        return
    async for block in document.blocks:
        blocks.append(block)
        if sum(map(len, blocks)) > BYTES_MAX:
            break
    config = feed.config
    mapper = Mapper(config.mapping, feed.supplier, feed.whole_name)
    for found in read_packed(blocks, config.format, config.mapping.paths):
        mapped = mapper.map(
            found.columns, found.numbers, Read(document.origin, document.observed_at, document.received_at)
        )
        document.rows += len(found.numbers) + len(found.broken)
        tried.updates.extend(islice(mapped.updates.to_pylist(), max(0, rows - len(tried.updates))))
        tried.faults.extend((broken.number, broken.original, broken.detail) for broken in found.broken[:rows])
        for row, faults in islice(mapped.faults.items(), rows):
            why = "; ".join(fault.detail for fault in faults)
            tried.faults.append((found.numbers[row].as_py(), found.original(row), why))
        if len(tried.updates) + len(tried.faults) >= rows:
            return


def _show(tried: Tried, feed: Feed, console: Console) -> None:
    if tried.updates:
        table = Table(*SHOWN)
        for update in tried.updates:
            table.add_row(*(_shown(name, update[name]) for name in SHOWN))
        console.print(table)
    for number, original, why in sorted(tried.faults):
        console.print(f"row {number}: {why}\n    {original[:200].decode(errors='replace')}", markup=False)
    if not tried.origins:
        console.print("there is nothing to read: nothing is there, or nothing fits what source says")
    elif not tried.updates and not tried.faults:
        place = {"json": "records", "xml": "row ({namespace}name, where the document has one)"}.get(
            feed.config.format.format, "format"
        )
        console.print(f"document {tried.origins[-1]} has no rows; if something is offered in it, mend {place}")


def _shown(name: str, value: object) -> str:
    """A cell."""
    if name == "observed_at" and isinstance(value, int):
        return datetime.fromtimestamp(value / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return str(value)
