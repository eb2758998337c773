"""The Parquet file of a partition: what is written is read, and what was changed since is named."""

from __future__ import annotations

import io
import random
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from inventory.digest import PartitionDigest
from schemas.keys import hold_key
from schemas.rows import Position
from stockweave.errors import Fatal
from stockweave.replay.checkpoint import file
from stockweave.replay.checkpoint.file import Entry, Finder, read, write
from stockweave.replay.checkpoint.manifest import PartitionFile, Stand
from tests.stockweave.replay.checkpoint.made import entries, row

WHERE = "checkpoints/x/partition-0.parquet"


def written(kept: list[Entry]) -> tuple[bytes, PartitionFile]:
    out = io.BytesIO()
    made = write(out, kept)
    return out.getvalue(), PartitionFile(0, "partition-0.parquet", *made, Stand.of(Position({}, {})), 0, 0)


@pytest.mark.parametrize("count", [0, 1, 7, 250])
def test_what_is_written_is_read_in_its_order(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "GROUP_ROWS_MAX", 100)
    kept = [(hold_key("sku-1", "r-1"), b"whatever"), *entries(count)]
    stored, known = written(kept)
    groups = list(read(io.BytesIO(stored), known, WHERE))
    assert [entry for group in groups for entry in group] == kept
    assert max(map(len, groups)) <= 100
    digest = PartitionDigest()
    for key, value in kept[1:]:
        digest.add(key, value)
    assert (known.rows, known.others, known.digest) == (count, 1, digest.hexdigest())


def test_a_group_ends_where_its_bytes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = entries(50)
    monkeypatch.setattr(file, "GROUP_BYTES_MAX", 3 * sum(map(len, kept[0])))
    stored, known = written(kept)
    assert [len(group) for group in read(io.BytesIO(stored), known, WHERE)] == [3] * 16 + [2]


def test_any_tool_reads_the_file(tmp_path: Path) -> None:
    stored, _ = written([(hold_key("sku-1", "r-1"), b"whatever"), *entries(10)])
    path = tmp_path / "partition-0.parquet"
    path.write_bytes(stored)
    said = pl.read_parquet(path).filter(pl.col("on_hand") > 13).select("sku", "on_hand", "version", "changed_at")
    [(sku, on_hand, version, changed_at)] = said.rows()
    assert (sku, on_hand, version, changed_at.timestamp()) == ("sku-00009", 14, 3, 1_700_000_000.123)
    assert {pq.ParquetFile(path).metadata.row_group(0).column(c).compression for c in range(7)} == {"ZSTD"}


def test_a_byte_that_was_changed_anywhere_is_found_and_the_file_named() -> None:
    stored, known = written(entries(300))
    rng = random.Random(5)
    places = {0, len(stored) - 1, *(rng.randrange(len(stored)) for _ in range(60))}
    for place in places:
        damaged = bytearray(stored)
        damaged[place] ^= 1 << rng.randrange(8)
        with pytest.raises(Fatal, match=f"^{WHERE} is damaged: its SHA-256 .* another checkpoint"):
            list(read(io.BytesIO(damaged), known, WHERE))
    for cut in (stored[:-1], stored + b"x", b""):
        with pytest.raises(Fatal, match=f"^{WHERE} is damaged: it has .* bytes, and the manifest says"):
            list(read(io.BytesIO(cut), known, WHERE))


def test_a_file_whose_checksum_was_made_to_fit_is_found_by_the_digests_of_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = entries(20)
    _, known = written(kept)
    for other in (kept[:-1], [*kept[:-1], (kept[-1][0], row("sku-00019", 0))], [(b"a", row("a", 1)), *kept]):
        stored, of_other = written(other)
        with pytest.raises(Fatal, match=r"is damaged: it has \d+ rows with digest .*, and the manifest says 20 "):
            list(read(io.BytesIO(stored), as_if(of_other, known), WHERE))
    monkeypatch.setattr(file, "digest", lambda _: bytes(16))  # the writer's column alone is wrong
    monkeypatch.setattr(file._Total, "add", lambda self, key, value: self.digest.add(key, value) and bytes(16))
    stored, of_other = written(kept)
    monkeypatch.undo()
    with pytest.raises(Fatal, match="the digest of b'sku-00000' is not that of its row"):
        list(read(io.BytesIO(stored), of_other, WHERE))


def as_if(found: PartitionFile, known: PartitionFile) -> PartitionFile:
    """A manifest whose checksum is the file's and all else another's."""
    other = PartitionFile(
        0, found.file, found.bytes, found.sha256, known.rows, known.others, known.digest, known.position, 0, 0
    )
    assert other.digest != found.digest
    return other


def test_rows_out_of_order_and_rows_that_are_none_are_not_written() -> None:
    kept = entries(3)
    with pytest.raises(ValueError, match="order of their keys"):
        written(kept[::-1])
    with pytest.raises(Fatal, match="the live row under b'sku' is no row"):
        written([(b"sku", b"\xc1")])


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    pl.DataFrame({"key": [1]}).write_parquet(tmp_path / "other")
    with (tmp_path / "other").open("rb") as other, pytest.raises(Fatal, match="has other columns than a checkpoint"):
        file.opened(other, WHERE)
    with pytest.raises(Fatal, match="is damaged: "):
        file.opened(io.BytesIO(b"no parquet"), WHERE)


def test_a_row_is_found_by_its_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "GROUP_ROWS_MAX", 7)
    kept = entries(100)
    stored, _ = written(kept)
    finder = Finder(io.BytesIO(stored), WHERE)
    rng = random.Random(1)
    for key, value in rng.sample(kept, 40):
        assert finder.find(key) == value
    for missing in (b"", b"a", b"sku-00050x", b"z"):
        assert finder.find(missing) is None
    nothing, _ = written([])
    assert Finder(io.BytesIO(nothing), WHERE).find(b"sku-00001") is None


def test_a_damaged_row_is_not_found_but_told(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [(b"sku", row("sku", 4))]
    monkeypatch.setattr(file._Total, "add", lambda *_: bytes(16))
    stored, _ = written(kept)
    monkeypatch.undo()
    with pytest.raises(Fatal, match="the digest of b'sku' is not that of its row"):
        Finder(io.BytesIO(stored), WHERE).find(b"sku")
