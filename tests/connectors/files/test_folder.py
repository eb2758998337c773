"""Feeds that are files in a folder, through a real Kafka."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tests.connectors.running import Running, csv_feed, repeats, told, units


def write(file: Path, text: str, changed_ms: int | None = None) -> None:
    """At once, as a supplier should."""
    file.parent.mkdir(exist_ok=True)
    draft = file.parent.parent / f"{file.name}.draft"
    draft.write_text(text)
    if changed_ms is not None:
        os.utime(draft, ns=(changed_ms * 1_000_000, changed_ms * 1_000_000))
    draft.replace(file)


async def test_every_row_of_a_file_is_an_update_or_a_dead_letter_with_its_bytes(
    running: Running, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.csv", "code,stock\ns1,5\ns2,many\ns3,7\ns4\n", changed_ms=1_790_000_000_123)
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        updates = await running.until_updates(2)
        await running.until(lambda: len(running.letters()) >= 2)
    assert units(updates) == {"s1": 5, "s3": 7}
    [first, *_] = updates
    assert (first["supplier_id"], first["observed_at"], first["feed"]) == ("acme", 1_790_000_000_123, "acme/stock@1")
    letters = {told(letter)["stockweave.row"]: letter for letter in running.letters()}
    assert {row: letter.value() for row, letter in letters.items()} == {"1": b"s2,many", "3": b"s4"}
    assert told(letters["1"])["__connect.errors.exception.class.name"] == "not_a_number"
    assert told(letters["1"])["stockweave.feed"] == "acme/stock@1"


async def test_a_file_is_read_once_and_again_when_it_is_another_one(running: Running, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", "code,stock\ns1,5\n", changed_ms=1_790_000_000_000)
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        await running.until_updates(1)
    async with running:  # from where it was
        write(tmp_path / "in" / "b.csv", "code,stock\ns2,6\n", changed_ms=1_790_000_001_000)
        await running.until_updates(2)
        write(tmp_path / "in" / "a.csv", "code,stock\ns1,4\n", changed_ms=1_790_000_002_000)
        updates = await running.until_updates(3)
    assert (units(updates), repeats(updates), len(updates)) == ({"s1": 4, "s2": 6}, 0, 3)


async def test_a_file_that_was_read_is_moved_where_that_is_wanted(running: Running, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", "code,stock\ns1,5\n")
    running.configure("acme", stock=csv_feed(tmp_path / "in", source={"then": "move", "to": "done"}))
    async with running:
        await running.until((tmp_path / "in" / "done" / "a.csv").exists)
        assert await running.until_updates(1)
    assert not (tmp_path / "in" / "a.csv").exists()


async def test_a_file_that_comes_while_another_settles_does_not_wait_for_the_next_poll(
    running: Running, tmp_path: Path
) -> None:
    hourly = csv_feed(tmp_path / "in", source={"settle_s": 1.0}) | {"poll": {"every_s": 3_600}}
    write(tmp_path / "in" / "a.csv", "code,stock\ns1,5\n")
    running.configure("acme", stock=hourly)
    async with running:
        await running.until_updates(1)
        with (tmp_path / "in" / "slow.csv").open("w") as slow:
            slow.write("code,stock\n")
            slow.flush()
            await asyncio.sleep(0.7)  # longer than a folder's news takes, shorter than its files settle
            slow.write("s2,6\n")
        write(tmp_path / "in" / "late.csv", "code,stock\ns3,7\n")
        updates = await running.until_updates(3)
    assert (units(updates), repeats(updates)) == ({"s1": 5, "s2": 6, "s3": 7}, 0)
