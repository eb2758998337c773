"""Sources of files without a runner: opened as the runner does, read to the end, their failures caught."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connectors.budget import Budget, Limits
from connectors.documents import Document, Source, State, Surroundings
from connectors.kinds import kinds
from connectors.testing.transfer_faults import TransferFaults
from stockweave.errors import Retriable
from stockweave.world import SystemClock

SECRET = "hunter2-and-some-more"  # what no error, log or repr may hold
WRONG = "correct-horse-not"
CHANGED_MS = 1_790_000_000_000


def put(file: Path, content: bytes, changed_ms: int = CHANGED_MS) -> Path:
    """A file of that time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, ns=(changed_ms * 1_000_000, changed_ms * 1_000_000))
    return file


def noise(size: int) -> bytes:
    """Bytes that show each one that is lost, doubled or out of place."""
    return Random(size).randbytes(size)


def rows(count: int) -> bytes:
    """A CSV file of as many SKUs, each with its number in stock."""
    return b"code,stock\n" + b"".join(b"sku-%07d,%d\n" % (n, n) for n in range(count))


@asynccontextmanager
async def opened(**source: Any) -> AsyncIterator[Source]:
    """A source by its configuration."""
    kind = kinds()[source["kind"]]
    config = kind.config.model_validate({"settle_s": 0.0} | source)
    clock = SystemClock()
    made = kind.open(config, Surroundings(1, clock, Budget(Limits(requests_per_s=1_000, burst=100, at_once=1), clock)))
    try:
        yield made
    finally:
        await made.close()


async def fetched(source: Source, state: State | None = None) -> tuple[dict[str, bytes], State]:
    """All that it reads, by the name of the file; and its state then."""
    state = state or {}
    found = {}
    async with aclosing(source.read(state)) as documents:
        async for document in documents:
            found[document.origin.split("-", 1)[1].rpartition("-")[0]] = await drained(document)
            state = document.after or state
    return found, state


async def settled(source: Source) -> None:
    """Read everything, and then have become of it what is wanted."""
    _, state = await fetched(source)
    assert await fetched(source, state) == ({}, state)


async def fetched_at_last(source: Source, faults: TransferFaults) -> dict[str, bytes]:
    """What it reads when no more faults are left; it complains of each until then."""
    while faults.are_left:
        await complaint(source)
    return (await fetched(source))[0]


async def drained(document: Document) -> bytes:
    """All of its bytes that were not read yet."""
    assert document.blocks is not None
    return b"".join([block async for block in document.blocks])


async def complaint(source: Source) -> str:
    """What it says when it cannot read; and it says no secret."""
    with pytest.raises(Retriable) as why:
        await fetched(source)
    said = f"{why.value} {why.value!r} {why.value.__cause__!r} {why.getrepr(style='long', showlocals=False)}"
    assert SECRET not in said
    assert WRONG not in said
    return str(why.value)
