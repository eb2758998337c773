"""What holds for every kind, through a real Kafka, while its supplier fails and changes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connectors.parcel import Parcel
from connectors.publisher import Publisher
from schemas.topics import UPDATES
from tests.connectors.conformance.suppliers import KINDS, RENAMED, Offers, started
from tests.connectors.inbound.sending import listening
from tests.connectors.runner.test_drift import alerts
from tests.connectors.running import Running, told

CHANGES, KILLS = 2, 2
CLOCKS = ("since", "kafka", "folder", "sftp", "ftp")  # what the others bring has the time at which it came
HOURS_S = 6 * 3_600
OFF = [(kind, -HOURS_S) for kind in CLOCKS] + [(kind, HOURS_S) for kind in CLOCKS if kind != "kafka"]
"""Times of a topic are of rows, and one of a row's own that is ahead is a letter (tests/connectors/mapping)."""
TYPED = "graphql"  # a field of another type than its schema says is an error of its own, and no row
NAMED = sorted(
    set(KINDS) - {"graphql", "soap", "kafka"}
)  # two have a schema; the rows of a topic are named by its test


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_supplier_has_is_what_is_said_of_each_sku_however_he_fails_and_changes(
    running: Running, tmp_path: Path, kind: str
) -> None:
    async with started(kind, running, tmp_path, listening(running)) as (stock, feed):
        running.configure(stock.name, stock=feed)
        for change in range(CHANGES):
            async with running:  # started anew for each, from where it was
                await running.until(lambda: stock.said(running) == stock.held)
                if change + 1 < CHANGES:
                    stock.change()
    assert running.letters() == []
    assert contradictions(running.updates()) == []


@pytest.mark.parametrize(("kind", "ahead_s"), OFF)
async def test_a_supplier_whose_clock_is_hours_off_is_read_all_the_same(
    running: Running, tmp_path: Path, kind: str, ahead_s: int
) -> None:
    async with started(kind, running, tmp_path, listening(running), share=0.0, ahead_s=ahead_s) as (stock, feed):
        running.configure(stock.name, stock=feed)
        async with running:
            for _ in range(CHANGES):
                await running.until(lambda: stock.said(running) == stock.held)
                stock.change()
            await running.until(lambda: stock.said(running) == stock.held)
    assert running.letters() == []


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {TYPED}))
async def test_words_in_place_of_numbers_are_letters_with_their_bytes_and_keep_no_other_row(
    running: Running, tmp_path: Path, kind: str
) -> None:
    async with read_whole(kind, running, tmp_path) as stock:
        before, broken = stock.held, {row["code"] for row in stock.rows[::2]}
        for number, row in enumerate(stock.rows):
            row |= {"stock": "plenty" if row["code"] in broken else 1_000 + number, "changed_ms": stock.now_ms}
        stock.write()
        rest = {code: before[code] if code in broken else units for code, units in stock.held.items()}
        await running.until(lambda: stock.said(running) == rest)
        await running.until(lambda: {code for code, _, _ in letters(running)} == broken)
        await running.until(lambda: any(each.change == "type" for each in alerts(running)))
        for row in stock.rows:
            row |= {"stock": 7, "changed_ms": stock.now_ms}
        stock.write()
        await running.until(lambda: stock.said(running) == stock.held)
    assert {(reason, b"plenty" in original) for _, reason, original in letters(running)} == {("not_a_number", True)}


@pytest.mark.parametrize("kind", NAMED)
async def test_a_quantity_of_another_name_is_told_and_counts_nowhere_until_its_name_is_back(
    running: Running, tmp_path: Path, kind: str
) -> None:
    async with read_whole(kind, running, tmp_path) as stock:
        before = stock.held
        for row in stock.rows:
            row |= {RENAMED: row.pop("stock") + 1_000, "changed_ms": stock.now_ms}
        stock.write()
        await running.until(lambda: any(each.change == "vanished" for each in alerts(running)))
        await running.until(lambda: running.letters() != [])
        assert stock.said(running) == before
        for row in stock.rows:
            row |= {"stock": row.pop(RENAMED) + 1_000, "changed_ms": stock.now_ms}
        stock.write()
        await running.until(lambda: stock.said(running) == stock.held)
    assert all(RENAMED.encode() in (letter.value() or b"").lower() for letter in running.letters())


async def test_no_feed_goes_past_what_kafka_has_not_acknowledged(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates, acknowledged, settle = running.deployment.topics[UPDATES.name].name, asyncio.Event(), Publisher.settle

    async def late(publisher: Publisher, parcel: Parcel) -> None:
        if publisher.topic == updates:
            waiting.add(parcel)
            await acknowledged.wait()
        await settle(publisher, parcel)

    waiting: set[Parcel] = set()
    monkeypatch.setattr(Publisher, "settle", late)
    async with all_of_them(running, tmp_path) as stocks, running:
        await running.until(lambda: len(waiting) >= len(KINDS))
        await asyncio.sleep(1.0)  # for what would be told too early
        assert [(name, at["state"]) for name, at in running.progress().items() if at["rows"] or at["state"]] == []
        acknowledged.set()
        for stock in stocks:
            await running.until(lambda stock=stock: stock.said(running) == stock.held)  # type: ignore[misc]
        await running.until(lambda: len(running.progress()) == len(KINDS))


async def test_a_killed_process_loses_nothing_of_any_kind_and_says_no_two_things_under_one_id(
    running: Running, tmp_path: Path
) -> None:
    rng = Random(5)
    command = [sys.executable, "-m", "stockweave", "connectors", "run", str(running.folder)]
    async with all_of_them(running, tmp_path) as stocks:
        environment = running.deployment.environment("killed")
        environment |= {"STOCKWEAVE_CONNECTORS_PORT": str(running.deployment.base.connectors_port)}
        for _ in range(KILLS):
            before = running.deployment.end_of_updates()
            with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:  # noqa: ASYNC220
                await running.until(lambda before=before: running.deployment.end_of_updates() > before)  # type: ignore[misc]
                await asyncio.sleep(rng.random())  # anywhere
                process.send_signal(signal.SIGKILL)
            for stock in stocks:
                stock.change()
        async with running:
            for stock in stocks:
                await running.until(lambda stock=stock: stock.said(running) == stock.held)  # type: ignore[misc]
    assert running.letters() == []
    assert contradictions(running.updates()) == []


@asynccontextmanager
async def read_whole(kind: str, running: Running, folder: Path) -> AsyncIterator[Offers]:
    """A supplier who does not fail, once all that he has is said; connectors run on."""
    async with started(kind, running, folder, listening(running), share=0.0) as (stock, feed):
        running.configure(stock.name, stock=feed)
        async with running:
            await running.until(lambda: stock.said(running) == stock.held)
            yield stock


@asynccontextmanager
async def all_of_them(running: Running, folder: Path) -> AsyncIterator[list[Offers]]:
    """A supplier of each kind, who does not fail."""
    url = listening(running)
    async with AsyncExitStack() as stack:
        stocks = []
        for kind in KINDS:
            stock, feed = await stack.enter_async_context(started(kind, running, folder, url, share=0.0))
            running.configure(stock.name, stock=feed)
            stocks.append(stock)
        yield stocks


def letters(running: Running) -> list[tuple[str, str, bytes]]:
    """Of each dead letter the SKU in it, the reason and the bytes."""
    found = []
    for letter in running.letters():
        original = letter.value() or b""
        at = original.index(b"A-")
        found.append((original[at : at + 7].decode(), told(letter)["__connect.errors.exception.class.name"], original))
    return found


def contradictions(updates: list[dict[str, Any]]) -> list[str]:
    """Ids under which one SKU of a supplier was told two things."""
    said: dict[tuple[str, ...], tuple[int, int]] = {}
    return [
        each["update_id"]
        for each in updates
        if said.setdefault(
            (each["supplier_id"], each["sku"], each["update_id"]), (each["quantity"], each["observed_at"])
        )
        != (each["quantity"], each["observed_at"])
    ]
