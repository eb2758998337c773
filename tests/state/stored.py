"""Stores with something in them, for the tests of this folder."""

from __future__ import annotations

from schemas.rows import Position, encode
from state.store import PartitionStore


def position(offset: int) -> bytes:
    return encode(Position({"inventory.updates": offset}, {"acme": [offset, 0, 0, 0]}))


def write_to_disk(store: PartitionStore, changed: dict[bytes, bytes | None], next_offset: int) -> None:
    store.write(changed, next_offset)
    store._write_back()
