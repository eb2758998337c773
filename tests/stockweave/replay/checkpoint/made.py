"""Checkpoints of rows that no Kafka has seen, for the tests that need none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.admin import Deployed
from schemas.rows import Count, Position, Source, StockRow, encode_row
from schemas.topics import RESERVATIONS, STOCK, UPDATES
from stockweave.replay.checkpoint.file import Entry, write
from stockweave.replay.checkpoint.manifest import (
    FACT_TOPICS,
    MANIFEST,
    Manifest,
    PartitionFile,
    Proof,
    Stand,
    TopicId,
    name_at,
)
from stockweave.replay.checkpoint.manifest import encode as encode_manifest
from stockweave.replay.checkpoint.place import Place

PARTITIONS = 2


def deployed(generation: str = "one", partitions: int = PARTITIONS) -> dict[str, Deployed]:
    """Topics with this id."""
    return {t.name: Deployed(t.name, partitions, generation) for t in (UPDATES, RESERVATIONS, STOCK)}


def row(sku: str, on_hand: int) -> bytes:
    source = Source(Count(0, f"count-{sku}", 1_700_000_000_000, on_hand), received_at=7, offset=8)
    return encode_row(StockRow(sku, 3, on_hand, 1_700_000_000_123, {"acme\x1fdefault": source}))


def entries(count: int, on_hand: int = 5) -> list[Entry]:
    return [(f"sku-{i:05}".encode(), row(f"sku-{i:05}", on_hand + i)) for i in range(count)]


class Made(NamedTuple):
    address: str
    name: str


@dataclass
class Shelf:
    """A place with checkpoints that tests make."""

    address: str
    topics: dict[str, Deployed] | None = None  # of a real deployment
    made: list[Made] = field(default_factory=list)

    def put(
        self,
        rows: Sequence[list[Entry]],
        offsets: Sequence[int],
        *,
        created_at: int = 1_763_717_889_123,
        generation: str = "one",
        proof: Proof | None = None,
    ) -> Made:
        """One checkpoint; `rows` and `offsets` of updates by partition."""
        place, name = Place(self.address), name_at(created_at + len(self.made))
        place.make_folder(name)
        parts = []
        for number, (kept, offset) in enumerate(zip(rows, offsets, strict=True)):
            file = f"partition-{number}.parquet"
            with place.writing(f"{name}/{file}") as out:
                written = write(out, kept)
            position = Position({UPDATES.name: offset}, {"acme": [offset, 0, 0, 0]}, 11, 12, generation)
            newest_at = 1_700_000_000_000 + offset
            parts.append(PartitionFile(number, file, *written, Stand.of(position), newest_at, 99))
        topics = self.topics or deployed(generation)
        facts = {topic: TopicId.of(topics[topic]) for topic in FACT_TOPICS}
        stock = TopicId.of(topics[STOCK.name])
        manifest = Manifest(1, name, created_at + len(self.made), 0, stock, facts, parts, proof)
        place.put(f"{name}/{MANIFEST}", encode_manifest(manifest))
        self.made.append(Made(place.address_of(name), name))
        return self.made[-1]
