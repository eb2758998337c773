"""What all folders have in common, with a folder of this machine."""

from __future__ import annotations

import gc
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from connectors.testing.transfer_faults import TransferFaults
from stockweave.errors import Retriable
from tests.connectors.files.fetching import drained, fetched, noise, opened, put


def options(folder: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "folder", "path": str(folder)} | more


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


async def test_what_was_read_and_could_not_be_moved_is_moved_later(tmp_path: Path) -> None:
    put(tmp_path / "a.csv", b"whole")
    async with opened(**options(tmp_path, then="move")) as source:
        (tmp_path / "read").write_text("in the way")
        async with aclosing(source.read({})) as documents:
            document = await anext(documents)
            await drained(document)
            with pytest.raises(Retriable, match="cannot be moved"):
                await anext(documents)
        (tmp_path / "read").unlink()
        found, _ = await fetched(source, document.after)
    assert found == {}
    assert (tmp_path / "read" / "a.csv").read_bytes() == b"whole"


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
