"""What is over a bar is named, and rows that are written for a benchmark are rows."""

from __future__ import annotations

import random
import zlib

from benchmarks import feeds, recover, scale, suppliers
from benchmarks.profile import EPOCH_MS, Profile, mix, sku_name, skus_of
from benchmarks.row_fill import SOURCES, row
from inventory.stock import Limits, apply
from schemas.keys import source_key
from schemas.rows import Source, StockRow, decode_row, encode_row


def test_each_recovery_over_its_bar_is_named_up_to_the_rows_that_bars_are_for() -> None:
    found = {"worker_disk": 3.1, "api_disk": 2.9, "worker_topic": 59.0, "api_topic": 60.0, "topic": 99.0, "files": 99.0}
    assert recover.over_bars(5_000_000, found) == ["worker_disk 3.1 s", "api_topic 60.0 s"]
    assert recover.over_bars(6_000_000, found) == []


def test_rows_and_memory_over_their_bars_are_named() -> None:
    assert scale.over_bars({"row_bytes": 599.0, "peak_mb": 1_073.0}) == []
    assert scale.over_bars({"row_bytes": 600.0, "peak_mb": 1_074.0}) == ["600 bytes a row", "1,074 MB"]


def test_a_feed_that_is_slow_or_large_or_loses_a_row_is_named() -> None:
    assert feeds.missed(100_000, 399.9, 0) == ""
    assert feeds.missed(99_999, 400, 1) == "99,999 rows/s; 400 MiB; 1 rows lost"


def test_a_poll_is_late_by_what_is_over_its_rhythm_and_those_that_fail_do_not_count() -> None:
    assert suppliers.delays({1: [0.0, 2.5, 4.0], 10: [0.0, 60.0], 2: [7.0]}, 2.0) == [0.5, 0.0]


def test_a_written_row_has_five_sources_that_add_up_each_with_deltas_after_its_count() -> None:
    rng = random.Random(1)
    for number in (0, 1, 4_999_999):
        made = decode_row(row(number, rng))
        assert (made.sku, len(made.sources)) == (sku_name(number), SOURCES)
        assert made.on_hand == sum(source.on_hand for source in made.sources.values())
        for source in made.sources.values():
            assert source.count is not None
            times = [source.count.at, *(delta.at for delta in source.deltas)]
            assert times == sorted(set(times))
            assert source.received_at == times[-1] < EPOCH_MS


def test_written_rows_repeat_no_more_than_rows_of_real_updates_do() -> None:
    skus = skus_of(Profile(skus=500), 1, 0, 1)
    sources: dict[str, dict[str, Source]] = {sku: {} for sku in skus}
    for update in mix(Profile(skus=500), skus, 0, 1, 20_000):
        source = sources[update["sku"]].setdefault(source_key(update["supplier_id"], "default"), Source())
        apply(source, update, Limits())
    folded = [encode_row(StockRow(sku, 1, 0, 0, sources[sku])) for sku in skus]
    rng = random.Random(1)
    written = [row(number, rng) for number in range(len(folded))]
    assert compressed_bytes(written) > 0.9 * compressed_bytes(folded)


def compressed_bytes(rows: list[bytes]) -> int:
    return len(zlib.compress(b"".join(rows)))
