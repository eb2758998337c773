"""Which checkpoint to begin with, and single rows of it; the log alone no longer tells where it was trimmed.

Invariant: what is chosen is of the very logs that are deployed, and at or before the asked offset of updates. Called by
`explain` for one partition, by verify, rebuild and checkpoint for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog

from schemas.admin import Deployed
from schemas.rows import Position
from schemas.topics import UPDATES
from stockweave.errors import Fatal
from stockweave.replay.checkpoint.file import Finder, check_bytes
from stockweave.replay.checkpoint.load import Checkpoint
from stockweave.replay.checkpoint.manifest import Manifest
from stockweave.replay.checkpoint.place import Place, address_of, default_address
from stockweave.replay.ends import log_ends
from stockweave.settings import Settings

log = structlog.get_logger(__name__)


class Found:
    """A partition of a checkpoint, open for look-ups; close it, or use it in a `with`.

    Attributes:
        name: of the checkpoint.
        position: what the rows stand for.
        newest_at: when the last update that they hold came into the log, ms since the epoch (or a little later; see
            `manifest.PartitionFile`): at any earlier time the rows were others.
    """

    def __init__(self, checkpoint: Checkpoint, partition: int) -> None:
        known, name = checkpoint.part(partition)
        where = checkpoint.place.address_of(name)
        self.name = checkpoint.name
        self.position: Position = known.position.position()
        self.newest_at = known.newest_at
        self._file = checkpoint.place.open(name)
        try:
            check_bytes(self._file, known, where)  # whole: where a row is looked for is told by the file's own end
            self._finder = Finder(self._file, where)
        except Fatal:
            self._file.close()
            raise

    def find(self, key: bytes) -> bytes | None:
        """The encoded row under a key, None where there is none.

        Raises:
            Fatal: it is damaged.
        """
        return self._finder.find(key)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def newest_fitting(
    settings: Settings, facts: Mapping[str, Deployed], partition: int, at_or_before: int
) -> Found | None:
    """The checkpoint in the default place that stands furthest in one partition, and not past an offset.

    Args:
        settings: of the deployment.
        facts: topics as deployed, by catalogue name (`ensure_topics`).
        partition: its number.
        at_or_before: offset of updates in that partition: of the first one that may be missing.

    Returns:
        None where no checkpoint fits.

    Raises:
        Fatal: the chosen one is damaged.
        Retriable: the place does not answer.
    """

    def covers(manifest: Manifest) -> bool:
        return manifest.partitions[partition].offset <= at_or_before

    chosen = _furthest(settings, facts, covers, [partition])
    return None if chosen is None else Found(chosen, partition)


def covering(
    settings: Settings,
    facts: Mapping[str, Deployed],
    starts: Mapping[int, int],
    until: Mapping[int, int] | None = None,
    accept: Callable[[Manifest], bool] = lambda _: True,
) -> Checkpoint | None:
    """The checkpoint in the default place that stands furthest, and from which the log goes on without a gap.

    Args:
        settings: of the deployment.
        facts: topics as deployed, by catalogue name.
        starts: the first offset that the log of updates has, by partition; other partitions do not matter.
        until: it is not past these offsets of updates; None: it may be anywhere.
        accept: what else is asked of it.
    """

    def covers(manifest: Manifest) -> bool:
        at = {number: manifest.partitions[number].offset for number in starts}
        whole = all(start <= at[number] for number, start in starts.items())
        return whole and (until is None or all(at[number] <= until[number] for number in starts)) and accept(manifest)

    return _furthest(settings, facts, covers, list(starts))


def named(settings: Settings, facts: Mapping[str, Deployed], name: str) -> Checkpoint:
    """The checkpoint of this name in the default place, or at this address.

    Raises:
        Fatal: it is not there, damaged, or of other logs.
        Retriable: the place does not answer.
    """
    found = Checkpoint(address_of(settings, name))
    stranger = found.manifest.stranger(facts)
    if stranger is not None:
        raise Fatal(
            f"the checkpoint {found.address} is not of this deployment: {stranger}; `stockweave checkpoint list` tells "
            "which fit"
        )
    return found


def begin_with(
    settings: Settings,
    facts: Mapping[str, Deployed],
    name: str | None,
    partitions: Sequence[int],
    until: Mapping[int, int] | None = None,
) -> Checkpoint | None:
    """What a replay of these partitions begins with; None: the first update.

    Without a name that is a checkpoint only where the log begins after its first update; where none covers it, None, so
    that whoever reads the log says what is missing.

    Raises:
        Fatal: the named one is not there, damaged, of other logs, or past the log's end.
        Retriable: Kafka or the place does not answer.
    """
    ends = log_ends(settings.bootstrap_servers or "", facts[UPDATES.name].name, partitions)
    if name is None:
        starts = {number: low for number, (low, _) in ends.items()}
        found = covering(settings, facts, starts, until) if any(starts.values()) else None
    else:
        found = named(settings, facts, name)
    if found is None:
        return None
    for number, (_, high) in ends.items():
        offset = found.manifest.partitions[number].offset
        if offset > high:
            raise Fatal(
                f"{facts[UPDATES.name].name} partition {number} ends at {high}, and the checkpoint {found.name} holds "
                f"its updates up to {offset}: the log has lost its end; restore it from a copy"
            )
    return found


def all_of(place: Place) -> Iterator[tuple[str, Checkpoint | Fatal]]:
    """Every checkpoint of a place, oldest first: the name, and it, or why it cannot be read."""
    for name in place.names()[0]:
        try:
            yield name, Checkpoint(place.address_of(name))
        except Fatal as error:
            yield name, error


def _furthest(
    settings: Settings, facts: Mapping[str, Deployed], covers: Callable[[Manifest], bool], partitions: Sequence[int]
) -> Checkpoint | None:
    best: tuple[tuple[int, int], Checkpoint] | None = None
    for name, found in all_of(Place(default_address(settings))):
        if isinstance(found, Fatal):
            log.warning("checkpoint_passed_over", name=name, why=str(found))
            continue
        manifest = found.manifest
        if manifest.stranger(facts) is not None or not covers(manifest):
            continue
        rank = sum(manifest.partitions[number].offset for number in partitions), manifest.created_at
        if best is None or rank > best[0]:
            best = rank, found
    return None if best is None else best[1]
