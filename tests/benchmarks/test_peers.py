"""The peers do the same work, or their figures prove nothing."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ingest import _agreement
from benchmarks.peers import programs
from benchmarks.peers.kafka_streams import read_row
from benchmarks.profile import Profile, base, mix, skus_of
from inventory.digest import meaning
from inventory.stock import Limits, apply
from schemas.rows import Count, Delta, Source, StockRow, encode_row
from stockweave.errors import Fatal


@pytest.fixture
def rule(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(programs.__file__).parent))
    yield __import__("rule")
    sys.modules.pop("rule")


def test_the_rule_of_the_python_peers_ends_with_our_rows(rule: Any) -> None:
    profile = Profile(skus=20, late_ms_max=300)
    skus = skus_of(profile, 1, 0, 1)
    updates = [*base(profile, skus, 0, 1), *mix(profile, skus, 0, 1, 5_000)]
    theirs: dict[str, Any] = {}
    ours: dict[tuple[str, str], Source] = {}
    for update in updates:
        rule.apply(theirs.setdefault(update["sku"], {}), dict(update))
        apply(ours.setdefault((update["sku"], update["supplier_id"]), Source()), update, Limits())
    for (sku, supplier), source in ours.items():
        count, deltas = theirs[sku][f"{supplier}/default"]
        held = None if source.count is None else [source.count.at, source.count.id, source.count.quantity]
        assert (count, deltas) == (held, [[d.at, d.id, d.quantity] for d in source.deltas])


def entry(at: int, quantity: int, name: bytes) -> bytes:
    return struct.pack(">qqh", at, quantity, len(name)) + name


def test_a_row_of_the_java_program_is_read_as_the_row_that_it_means() -> None:
    source = struct.pack(">bqqqh", 1 | 2 | 8, 77, 5, -4, 2) + struct.pack(">q", 900)
    source += entry(1_000, 12, b"c-1") + entry(1_001, -2, b"d-1") + entry(1_002, 3, "dé".encode())
    key = b"acme\x1fdefault"
    row = struct.pack(">qqq", 6, 9, 77) + struct.pack(">hi", len(key), len(source)) + key + source
    deltas = [Delta(1_001, "d-1", -2), Delta(1_002, "dé", 3)]
    expected = Source(Count(0, "c-1", 1_000, 12), deltas, -4, 900, basis=1, received_at=77, offset=5)
    read = read_row("TEA", row)
    assert read == StockRow("TEA", 6, 9, 77, {"acme\x1fdefault": expected})
    assert meaning(encode_row(read)) == meaning(encode_row(StockRow("TEA", 1, 9, 1, {"acme\x1fdefault": expected})))


def test_different_rows_make_the_figures_void() -> None:
    with pytest.raises(Fatal, match="void"):
        _agreement({"stockweave, run 1": "1 rows, digest a", "kafka-streams, run 1": "1 rows, digest b"})
    same = {"stockweave, run 1": "1 rows, digest a", "kafka-streams, run 1": "1 rows, digest a"}
    assert _agreement(same) == "rows of stockweave and kafka-streams agree: 1 rows, digest a"
