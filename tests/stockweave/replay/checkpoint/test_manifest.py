"""The manifest: nothing in it can change unseen, and it tells which logs it is of."""

from __future__ import annotations

import re

import msgspec
import pytest

from schemas.rows import Position
from schemas.topics import RESERVATIONS, STOCK, UPDATES
from stockweave.errors import Fatal
from stockweave.replay.checkpoint.manifest import (
    FACT_TOPICS,
    Manifest,
    PartitionFile,
    Proof,
    Stand,
    TopicId,
    decode,
    encode,
    name_at,
)
from tests.stockweave.replay.checkpoint.made import deployed

POSITION = Position({UPDATES.name: 40}, {"acme": [1, 2, 3, 4], "": [0, 0, 0, 5]}, 6, 7, "one")
MANIFEST = Manifest(
    1,
    name_at(1_763_717_889_123),
    1_763_717_889_123,
    3,
    TopicId("inventory.stock.g3", "two"),
    {name: TopicId.of(deployed()[name]) for name in FACT_TOPICS},
    [PartitionFile(n, f"partition-{n}.parquet", 10, "ab", 3, 0, "cd", Stand.of(POSITION), 9, 99) for n in (0, 1)],
    Proof(1_763_717_889_999, None, 80, "ef"),
)


def test_what_is_written_is_read() -> None:
    read = decode(encode(MANIFEST), "m")
    assert msgspec.structs.replace(read, sha256="") == MANIFEST
    assert read.partitions[0].position.position() == POSITION
    assert (read.rows, read.bytes, read.partitions[1].offset) == (6, 20, 40)
    assert read.name == "2025-11-21T093809.123Z"


def test_positions_keep_what_they_say_of_reservations() -> None:
    position = msgspec.structs.replace(POSITION, facts=7, facts_from=9, decided_at=1_700_000_000_000)
    part = msgspec.structs.replace(MANIFEST.partitions[0], position=Stand.of(position))
    read = decode(encode(msgspec.structs.replace(MANIFEST, partitions=[part])), "m")
    assert read.partitions[0].position.position() == position


def test_a_manifest_of_before_there_were_reservations_is_read() -> None:
    """Its checksum is of its own fields alone."""
    before = ("offsets", "outcomes", "clock", "oldest_received_at", "updates_generation")
    said = msgspec.json.decode(encode(MANIFEST))
    assert [tuple(part["position"]) for part in said["partitions"]] == [before, before]


def test_a_bit_that_was_changed_anywhere_is_found_and_the_file_named() -> None:
    written = encode(MANIFEST)
    for place in range(len(written)):
        for bit in range(8):
            damaged = bytearray(written)
            damaged[place] ^= 1 << bit
            with pytest.raises(Fatal, match=r"^x/manifest.json (is damaged: |has format)"):
                decode(bytes(damaged), "x/manifest.json")
    for cut in (b"", written[:-2], written[:100]):
        with pytest.raises(Fatal, match=r"^x/manifest.json is damaged: "):
            decode(cut, "x/manifest.json")


def test_another_format_is_named() -> None:
    other = msgspec.structs.replace(MANIFEST, format=2)
    with pytest.raises(Fatal, match="has format 2, and 1 is read here: use the stockweave that wrote it"):
        decode(encode(other), "m")


def test_a_checkpoint_fits_the_very_logs_that_it_was_made_of() -> None:
    assert MANIFEST.stranger(deployed()) is None
    assert MANIFEST.stranger(deployed() | {STOCK.name: deployed("other")[STOCK.name]}) is None  # rows may be lost
    for name in (UPDATES.name, RESERVATIONS.name):
        said = MANIFEST.stranger(deployed() | {name: deployed("other")[name]})
        assert said == f"it is of the log {name} (id one), and here it is {name} (id other)"
        missing = {known: topic for known, topic in deployed().items() if known != name}
        assert re.search("here it is none", MANIFEST.stranger(missing) or "")
    assert MANIFEST.stranger(deployed(partitions=4)) == "it has 2 partitions, and inventory.updates has 4"
