"""What all folders have in common, with a folder of this machine."""

from __future__ import annotations

import asyncio
import gc
import os
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from connectors.testing.transfer_faults import TransferFaults
from stockweave.errors import Retriable
from tests.connectors.files.fetching import complaint, drained, fetched, noise, opened, put


def options(folder: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "folder", "path": str(folder)} | more


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


@pytest.mark.parametrize(
    ("change", "said"), [(b"less", "ends after 4 of 5 bytes"), (b"more and more", "has grown beyond its 5 bytes")]
)
async def test_a_file_of_another_size_than_was_listed_is_no_file(tmp_path: Path, change: bytes, said: str) -> None:
    file = put(tmp_path / "a.csv", b"whole")
    async with opened(**options(tmp_path)) as source, aclosing(source.read({})) as documents:
        document = await anext(documents)
        put(file, change)
        with pytest.raises(Retriable, match=said):
            await drained(document)


@pytest.mark.parametrize(("then", "left"), [("delete", []), ("move", ["read"]), ("leave", ["a.csv"])])
async def test_a_file_goes_when_the_state_says_that_kafka_has_it_and_not_before(
    tmp_path: Path, then: str, left: list[str]
) -> None:
    put(tmp_path / "a.csv", b"whole")
    async with opened(**options(tmp_path, then=then)) as source:
        found, state = await fetched(source)
        if then != "leave":
            await asyncio.wait_for(source.news(), 10.0)  # at once
        assert (await fetched(source))[0] == found == {"a.csv": b"whole"}  # for who only tries it
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.news(), 0.1)  # but once
        assert names(tmp_path) == ["a.csv"]
        assert await fetched(source, state) == ({}, state)
    assert names(tmp_path) == left


async def test_what_was_read_and_could_not_be_moved_is_moved_later(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", b"whole")
    async with opened(**options(tmp_path, then="move")) as source:
        _, state = await fetched(source)
        (tmp_path / "read").write_text("in the way")
        with pytest.raises(Retriable, match="cannot be moved"):
            await fetched(source, state)
        (tmp_path / "read").unlink()
        assert await fetched(source, state) == ({}, state)
    assert (tmp_path / "read" / "a.csv").read_bytes() == b"whole"


async def test_a_name_that_the_state_cannot_hold_is_told(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", b"whole")
    put(tmp_path / os.fsdecode(b"b\xe4.csv"), b"whole")
    async with opened(**options(tmp_path)) as source:
        assert await complaint(source) == "file 'b\\udce4.csv' has a name that is not UTF-8; rename it"
    async with opened(**options(tmp_path, pattern="a*")) as source:
        assert (await fetched(source))[0] == {"a.csv": b"whole"}


async def test_a_file_that_is_read_no_further_holds_up_no_other(tmp_path: Path) -> None:
    """Its turn in the budget, which is for one at a time here, is given back, and the file is closed."""
    put(tmp_path / "a.csv", noise(3_000_000))
    put(tmp_path / "b.csv", noise(3_000_000))
    gc.disable()  # which would do the same, some time
    try:
        async with opened(**options(tmp_path)) as source:
            held = []
            async with aclosing(source.read({})) as documents:
                async for document in documents:
                    assert document.blocks is not None
                    held.append(document.blocks)
                    await anext(document.blocks)
            assert len(held) == 2
            assert len((await fetched(source))[0]) == 2
    finally:
        gc.enable()


def test_the_same_seed_brings_the_same_faults_once_each() -> None:
    def cuts(faults: TransferFaults) -> list[int | None]:
        return [faults.cut_before(1_000) for _ in range(4)]

    one = TransferFaults.seeded(7, size=1_000)
    assert cuts(one) == cuts(TransferFaults.seeded(7, size=1_000))
    assert cuts(TransferFaults.seeded(8, size=1_000)) != cuts(TransferFaults.seeded(7, size=1_000))
    assert cuts(one) == [None] * 4
    assert [one.refuses_login(), one.refuses_login(), one.are_left] == [True, False, False]


async def test_of_two_files_of_one_moment_the_later_name_is_the_later_statement(tmp_path: Path) -> None:
    for name, content in (("stock-1.csv", b"a longer one"), ("stock-2.csv", b"short")):
        os.utime(put(tmp_path / name, content), (1_790_000_000, 1_790_000_000))
    assert await origins(tmp_path) == ["01790000000000-stock-1.csv-12", "01790000000000-stock-2.csv-5"]


async def test_two_files_have_two_origins_however_long_their_names_are(tmp_path: Path) -> None:
    for last in "ab":
        os.utime(put(tmp_path / f"{'n' * 200}{last}", b"same"), (1_790_000_000, 1_790_000_000))
    first, second = await origins(tmp_path)
    assert first != second
    assert max(len(first), len(second)) <= 100


async def origins(folder: Path) -> list[str]:
    found = []
    async with opened(**options(folder)) as source, aclosing(source.read({})) as documents:
        async for document in documents:
            found.append(document.origin)
            await drained(document)
    return found
