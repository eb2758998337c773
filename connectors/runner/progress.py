"""What inventory.feeds keeps of each feed: how far it has come, what its last snapshot offered, what a person ordered.

Invariant: a progress says no more than Kafka has: it is written after the updates that it stands for are acknowledged.
Whoever takes a feed over goes on from it; what comes twice then has the ids that it had, and counts once. So a process
that was thought dead, and writes an older one, costs but a repeat. Written by `feed`, read by `leases` and
`stockweave quarantine`.

Keys are `supplier/feed` for its progress, and with `#offers/NNN`, `#order`, `#health`, `#parked`, `#profile` or
`#drift/NN` after it (what is usual, and the latest alerts that it was not); all of a feed is in the partition of its
supplier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec
import orjson
from confluent_kafka import Message

from connectors.documents import State
from connectors.mapping.drift import Alert, Profile
from connectors.publisher import Publisher
from schemas import feed_health
from schemas.feed_health import FeedHealth
from schemas.keys import feed_partition
from stockweave.errors import Rejected, Retriable

OFFERS, ORDER = "#offers/", "#order"
PROFILE, DRIFT = "#profile", "#drift/"
PARKED = "#parked"
DRIFTS_KEPT = 32


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot that waits for a person. `known`, `missing`, `changed`: offers before it, not in it, other in it.

    `passed`: earlier ones that waited when this one came; they are passed over.
    """

    origin: str
    passed: list[str] = []
    why: str
    known: int
    missing: int
    changed: int
    at_ms: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Of one feed.

    `state`: what its kind goes on from. `origin`, `rows`: of the document that is being read, how many of its rows
    Kafka has; None: none is. `held`: the snapshot that was held back last, until another one is taken. `at_ms`: when it
    was written, since the epoch.
    """

    feed: str
    state: State = {}
    origin: str | None = None
    rows: int = 0
    held: Held | None = None
    at_ms: int = 0


class Order(msgspec.Struct, frozen=True):
    """What a person wants of a snapshot that is held back."""

    origin: str
    do: Literal["release", "drop"]


class ParkedFrom(msgspec.Struct, frozen=True):
    """Where in the dead letters the first is of the feed's that may wait for the map of SKUs."""

    partition: int
    offset: int


@dataclass
class Kept:
    """All that is kept of a feed. `offers`: of its last snapshot, by bucket, as `snapshot` encodes them.

    `profile`: of its fields; `drifts`: the latest alerts of them, by their number modulo `DRIFTS_KEPT`.
    """

    progress: Progress
    offers: dict[int, bytes] = field(default_factory=dict)
    order: Order | None = None
    health: FeedHealth | None = None
    profile: Profile | None = None
    drifts: dict[int, Alert] = field(default_factory=dict)
    parked: ParkedFrom | None = None


def note(kept: dict[str, Kept], message: Message) -> str:
    """Take a record in; the feed that it is of.

    Raises:
        Rejected: it is none of ours, and changes nothing.
    """
    key = (message.key() or b"").decode(errors="replace")
    feed, mark, rest = key.partition("#")
    value = message.value()
    known = kept.setdefault(feed, Kept(Progress(feed=feed)))
    try:
        if not mark:
            known.progress = Progress(feed=feed) if value is None else msgspec.json.decode(value, type=Progress)
        elif mark + rest == ORDER:
            known.order = None if value is None else msgspec.json.decode(value, type=Order)
        elif mark + rest == feed_health.MARK:
            known.health = feed_health.decode(value) if value else None
        elif (mark + rest).startswith(OFFERS):
            known.offers[int(key.rpartition("/")[2])] = value or b""
        elif mark + rest == PARKED:
            known.parked = None if value is None else msgspec.json.decode(value, type=ParkedFrom)
        elif mark + rest == PROFILE:
            known.profile = None if value is None else msgspec.json.decode(value, type=Profile)
        elif (mark + rest).startswith(DRIFT) and value is not None:
            known.drifts[int(key.rpartition("/")[2])] = msgspec.json.decode(value, type=Alert)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise Rejected("invalid_progress", f"record {key!r} of inventory.feeds cannot be read: {error}") from None
    return feed


class Keeper:
    """Writes what is kept of one feed.

    Args:
        feed: its whole name.
        kept: as it is.
        publisher: of inventory.feeds.
        partitions: of that topic.
    """

    def __init__(self, feed: str, kept: Kept, publisher: Publisher, partitions: int) -> None:
        self.kept = kept
        self._feed = feed
        self._publisher = publisher
        self._partition = feed_partition(feed, partitions)

    async def keep(self, progress: Progress) -> None:
        """Returns once Kafka has it; raises Retriable else."""
        await self._write([(self._feed, orjson.dumps(msgspec.to_builtins(progress)))])
        self.kept.progress = progress

    async def keep_offers(self, changed: dict[int, bytes]) -> None:
        """Likewise, of the buckets that are other ones now."""
        await self._write([(f"{self._feed}{OFFERS}{bucket:03}", value) for bucket, value in changed.items()])
        self.kept.offers.update(changed)

    async def keep_health(self, health: FeedHealth | None) -> None:
        """Likewise; None: there is no such feed any more."""
        value = b"" if health is None else feed_health.encode(health)
        await self._write([(f"{self._feed}{feed_health.MARK}", value)])
        self.kept.health = health

    async def keep_parked(self, parked: ParkedFrom) -> None:
        """Likewise."""
        await self._write([(f"{self._feed}{PARKED}", msgspec.json.encode(parked))])
        self.kept.parked = parked

    async def keep_drift(self, alerts: list[Alert], profile: Profile) -> None:
        """Likewise; the alerts first."""
        records = [(f"{self._feed}{DRIFT}{a.number % DRIFTS_KEPT:02}", msgspec.json.encode(a)) for a in alerts]
        await self._write(records)
        await self._write([(f"{self._feed}{PROFILE}", msgspec.json.encode(profile))])
        self.kept.profile = profile

    async def _write(self, records: list[tuple[str, bytes]]) -> None:
        if not records:
            return
        keys, values = [key for key, _ in records], [value for _, value in records]
        parcel = await self._publisher.send_encoded(values, keys, partition=self._partition)
        await self._publisher.settle(parcel)
        if parcel.failures:
            raise Retriable(f"the progress of {self._feed} is not kept: it {parcel.failures[0].detail}")
