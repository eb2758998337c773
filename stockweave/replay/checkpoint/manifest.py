"""What a checkpoint says of itself: one JSON file, written last, which makes the checkpoint exist; pure.

Invariant: a manifest that was changed in any place is not read. Everything that is needed to trust the rows is in it:
digests, checksums, the positions that the rows stand for, and the very logs whose offsets these are.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping

import msgspec

from schemas.admin import Deployed
from schemas.rows import Position
from schemas.topics import RESERVATIONS, UPDATES
from stockweave.errors import Fatal

FORMAT = 1
MANIFEST = "manifest.json"
FACT_TOPICS = (UPDATES.name, RESERVATIONS.name)
"""What rows are made of, and what may be deleted up to a checkpoint's offsets."""


class TopicId(msgspec.Struct, frozen=True):
    """A topic by its deployed name, and `id`: which of all topics that ever had this name (`Deployed.generation`)."""

    topic: str
    id: str

    @classmethod
    def of(cls, deployed: Deployed) -> TopicId:
        """The id of a deployed topic."""
        return cls(deployed.name, deployed.generation)


class Proof(msgspec.Struct, frozen=True):
    """The rows were folded again from the facts and were the same.

    `at`: when, ms since the epoch; `begin`: the checkpoint that the folding began with, None: the first update;
    `updates`: how many were folded; `rules`: digest of the rules that folded them.
    """

    at: int
    begin: str | None
    updates: int
    rules: str


class Stand(msgspec.Struct, frozen=True, omit_defaults=True):
    """A `schemas.rows.Position` with names.

    What checkpoints of before did not have has a default and is left out with it, so that their checksums hold.
    """

    offsets: dict[str, int]
    outcomes: dict[str, list[int]]
    clock: int
    oldest_received_at: int
    updates_generation: str
    facts: int = 0
    facts_from: int = 0
    decided_at: int = 0
    forgotten_to: int = 0

    @classmethod
    def of(cls, position: Position) -> Stand:
        """The same position."""
        return cls(**msgspec.structs.asdict(position))

    def position(self) -> Position:
        """The same position."""
        return Position(**msgspec.structs.asdict(self))


class PartitionFile(msgspec.Struct, frozen=True):
    """One partition.

    Attributes:
        partition: its number.
        file: beside the manifest.
        bytes: of the file.
        sha256: of the file, in hexadecimal.
        rows: how many.
        others: records under reserved keys: holds, and which orders they belong to.
        digest: of the rows (`inventory.digest.PartitionDigest`).
        position: what the rows stand for.
        newest_at: when the last of these updates came into the log, ms since the epoch, or later where the log no
            longer told; 0 where there is none.
        stock_end: the offset of the rows' own topic that they were read up to.
    """

    partition: int
    file: str
    bytes: int
    sha256: str
    rows: int
    others: int
    digest: str
    position: Stand
    newest_at: int
    stock_end: int

    @property
    def offset(self) -> int:
        """Of the first update that the rows do not hold."""
        return self.position.offsets.get(UPDATES.name, 0)


class Manifest(msgspec.Struct, frozen=True):
    """A checkpoint.

    Attributes:
        format: of this file and of those that it names.
        name: sorts by time.
        created_at: ms since the epoch.
        generation: number of the generation whose rows these are.
        stock: its topic.
        facts: the logs of the positions, by catalogue name.
        partitions: in order, none missing.
        proof: None: the rows are the live ones, and nobody has folded them again.
        sha256: of all the rest.
    """

    format: int
    name: str
    created_at: int
    generation: int
    stock: TopicId
    facts: dict[str, TopicId]
    partitions: list[PartitionFile]
    proof: Proof | None = None
    sha256: str = ""

    @property
    def rows(self) -> int:
        """In all partitions."""
        return sum(p.rows for p in self.partitions)

    @property
    def bytes(self) -> int:
        """Of all files but this one."""
        return sum(p.bytes for p in self.partitions)

    def stranger(self, facts: Mapping[str, Deployed]) -> str | None:
        """Why its offsets mean nothing in these logs, or None.

        Args:
            facts: as deployed, by catalogue name.
        """
        for name, known in self.facts.items():
            found = facts.get(name)
            if found is None or TopicId.of(found) != known:
                there = "none" if found is None else f"{found.name} (id {found.generation})"
                return f"it is of the log {known.topic} (id {known.id}), and here it is {there}"
            if found.partitions != len(self.partitions):
                return f"it has {len(self.partitions)} partitions, and {found.name} has {found.partitions}"
        return None


class _Format(msgspec.Struct):
    format: int


def name_at(created_at: int) -> str:
    """The name of a checkpoint that is made at this time (ms since the epoch): `2026-11-21T093809.123Z`."""
    moment = datetime.datetime.fromtimestamp(created_at / 1000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H%M%S}.{created_at % 1000:03d}Z"


def encode(manifest: Manifest) -> bytes:
    """The file's bytes, with its own checksum."""
    sealed = msgspec.structs.replace(manifest, sha256=_checksum(manifest))
    return msgspec.json.format(msgspec.json.encode(sealed), indent=1) + b"\n"


def decode(value: bytes, where: str) -> Manifest:
    """The manifest of a file's bytes.

    Args:
        value: the bytes.
        where: the file, for messages.

    Raises:
        Fatal: it is damaged, or of another format.
    """
    try:
        known = msgspec.json.decode(value, type=_Format).format
        if known != FORMAT:
            raise Fatal(f"{where} has format {known}, and {FORMAT} is read here: use the stockweave that wrote it")
        manifest = msgspec.json.decode(value, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Fatal(f"{where} is damaged: {error}; restore it from a copy, or use another checkpoint") from error
    if manifest.sha256 != _checksum(manifest):
        raise Fatal(
            f"{where} is damaged: its checksum is not that of its content; restore it from a copy, or use another "
            "checkpoint"
        )
    return manifest


def _checksum(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, sha256=""))).hexdigest()
