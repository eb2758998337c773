"""Reads checkpoints: their manifests, and the rows of a partition, verified on the way in.

Invariant: a store has a position only once every row of the file was read and found to be what the manifest says.
Called by verify and rebuild, in the process of each partition, and by whatever chooses a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from schemas import keys, rows
from schemas.rows import Position
from state.store import PartitionStore
from stockweave.errors import Fatal
from stockweave.replay.checkpoint import file
from stockweave.replay.checkpoint.manifest import MANIFEST, Manifest, PartitionFile, decode
from stockweave.replay.checkpoint.place import Place


class Checkpoint:
    """One that is there.

    Args:
        address: its folder.

    Raises:
        Fatal: it is not there, or its manifest is damaged.
        Retriable: the place does not answer.
    """

    def __init__(self, address: str) -> None:
        above, _, self.name = address.rstrip("/").rpartition("/")
        self.place = Place(above)
        self.address = self.place.address_of(self.name)
        manifest = f"{self.name}/{MANIFEST}"
        self.manifest: Manifest = decode(self.place.get(manifest), self.place.address_of(manifest))
        if self.manifest.name != self.name:
            raise Fatal(f"{self.address} says that its name is {self.manifest.name}; give the folder that name again")

    def part(self, partition: int) -> tuple[PartitionFile, str]:
        """What there is of a partition, and the file's name in the place.

        Raises:
            Fatal: there is no such partition.
        """
        if partition >= len(self.manifest.partitions):
            raise Fatal(
                f"{self.address} has {len(self.manifest.partitions)} partitions, and {partition} is none of them; use "
                "a checkpoint of this deployment (`stockweave checkpoint list`)"
            )
        known = self.manifest.partitions[partition]
        return known, f"{self.name}/{known.file}"

    def check(self, partitions: Iterable[int]) -> None:
        """Compare the files of `partitions` with the manifest: before anything is begun that needs them.

        Raises:
            Fatal: one is damaged or not there.
            Retriable: the place does not answer.
        """
        for partition in partitions:
            known, name = self.part(partition)
            with self.place.reading(name) as opened:
                file.check_bytes(opened, known, self.place.address_of(name))

    def groups(self, partition: int) -> Iterator[list[file.Entry]]:
        """All keys and values of a partition in order, a row group at a time; see `file.read`."""
        known, name = self.part(partition)
        with self.place.reading(name) as opened:
            yield from file.read(opened, known, self.place.address_of(name))


def load_partition(address: str, partition: int, store: PartitionStore) -> Position:
    """Fill an empty store with a partition's rows and, last, their position; returns that.

    Raises:
        Fatal: the checkpoint is damaged or not there; the store then has no position.
        Retriable: the place does not answer.
    """
    checkpoint = Checkpoint(address)
    for group in checkpoint.groups(partition):
        store.write(dict(group), 0)
    position = checkpoint.manifest.partitions[partition].position.position()
    store.write({keys.POSITION: rows.encode(position)}, 0)
    return position
