"""What the read routes answer: the JSON types, which are also their documentation, and how rows become them.

Times are RFC 3339 in UTC with milliseconds. The ETag names what a row means: generation and version, and how many of
its sources are stale, for that alone changes the number without changing the row (by one set of policies a row's
sources grow stale in one order only, so the count names the set); and, once there are any, the policies' revision.
It is weak, since ages move on. Called by the routes.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from inventory.availability import Availability, Part, availability
from inventory.policies import UNKNOWN, Policies, Rules
from inventory.stock import observed_at
from schemas.rows import Source, StockRow

IDS = {"supplier_id": "supplierId", "location_id": "locationId"}
COUNT_KINDS = ("COUNT", "WITHDRAWN")
BASES = ("ON_HAND", "AVAILABLE")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_MS = 253_402_300_799_999  # the end of the year 9999, past which RFC 3339 has no times

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class SupplierQuantity(Struct, rename=IDS):
    """A supplier's part."""

    supplier_id: str
    quantity: Annotated[int, Meta(description="On hand of all its sources, as stated: below zero when oversold.")]


class LocationQuantity(Struct, rename=IDS):
    """A location's part."""

    location_id: str
    quantity: Annotated[
        int,
        Meta(
            description="What it brings; these add up to available_quantity, safety stock and a channel's share apart."
        ),
    ]


class SourceName(Struct, rename=IDS):
    """A supplier at a location."""

    supplier_id: str
    location_id: str


class Freshness(Struct):
    """How old the answer is."""

    oldest_observed_at: Annotated[
        Time | None, Meta(description="The oldest among the latest statements of the sources that count.")
    ]
    age_ms: Annotated[int | None, Meta(description="The time since then.")]
    stale_sources: Annotated[
        list[SourceName],
        Meta(description="Past their own staleAfterMs, or their policy's: they count as nothing, or as its floor."),
    ]
    confirmed_at: Annotated[
        Time | None,
        Meta(description="When Kafka was last heard from; if long ago, later changes are missing from the answer."),
    ]


class Item(Struct):
    """What can be sold of a SKU."""

    sku: str
    available_quantity: Annotated[
        int,
        Meta(
            description="By the policies of the SKU and the channel; without any, the sum over all sources that are "
            "not stale of their on hand less what is reserved, each at least zero."
        ),
    ]
    suppliers: list[SupplierQuantity]
    locations: list[LocationQuantity]
    certain_quantity: Annotated[
        int, Meta(description="The same of fresh sources with a count alone: available_quantity is at least that.")
    ]
    hoped_for_quantity: Annotated[
        int, Meta(description="The same as if no source were stale: available_quantity is at most that.")
    ]
    backorderable_quantity: Annotated[int, Meta(description="What may be sold beyond the stock, by policy.")]
    last_updated: Annotated[Time, Meta(description="When the latest update that changed the row was received.")]
    version: Annotated[str, Meta(description="Generation and version of the row; it changes with every change.")]
    freshness: Freshness


class Items(Struct):
    """Several SKUs, in the order asked for."""

    items: list[Item]
    unknown: Annotated[list[str], Meta(description="SKUs of which nothing was ever heard.")]


class Page(Struct):
    """A part of the list, in the order of SKUs (by code point)."""

    items: list[Item]
    next: Annotated[
        str | None,
        Meta(description="The cursor of the next page, null on the last; a page may be short, or empty, before it."),
    ]


class CountAnswer(Struct):
    """A source's last count."""

    kind: Annotated[str, Meta(description="COUNT or WITHDRAWN.")]
    id: str
    observed_at: Time
    quantity: int


class DeltaAnswer(Struct):
    """A change observed after the count."""

    id: str
    observed_at: Time
    quantity: int
    order_ref: str | None


class IncomingAnswer(Struct):
    """Units announced for later."""

    expected_at: Time
    quantity: int


class SourceAnswer(Struct, rename=IDS):
    """A supplier at a location, with all that its number is made of."""

    supplier_id: str
    location_id: str
    on_hand: Annotated[int, Meta(description="count + carried + deltas; below zero when oversold at the supplier.")]
    reserved: Annotated[
        int,
        Meta(
            description="Units that reservations have, and of which on_hand does not know; of a pool, with the source "
            "that speaks for it."
        ),
    ]
    available: Annotated[int, Meta(description="on_hand less reserved, at least zero: before any policy.")]
    anchored: Annotated[bool, Meta(description="Whether a count was ever heard; if not, on_hand is changes alone.")]
    counts: Annotated[int, Meta(description="The units that it brings, safety stock of the SKU and share apart.")]
    standing: Annotated[
        str,
        Meta(
            description="COUNTED; STALE, which brings its floor; EXCLUDED by a policy; PASSED_OVER for another "
            "supplier by the strategy; SAME_STOCK, for which another source of its pool speaks."
        ),
    ]
    reliability_percent: Annotated[
        int | None,
        Meta(
            description="Its supplier's score as policies go by it, which is the recorded one; null: none is recorded."
        ),
    ]
    at_most: Annotated[
        int | None, Meta(description="What its pool has on hand, where that is less than this source says.")
    ]
    count: CountAnswer | None
    deltas: list[DeltaAnswer]
    carried: Annotated[int, Meta(description="Sum of the older deltas, which are no longer kept one by one.")]
    floor_at: Annotated[Time | None, Meta(description="Deltas observed up to then are too old to be taken.")]
    basis: Annotated[str, Meta(description="ON_HAND or AVAILABLE: what the supplier's count already nets out.")]
    incoming: list[IncomingAnswer]
    stale_after_ms: int | None
    observed_at: Annotated[Time, Meta(description="When its latest statement was true at the supplier.")]
    received_at: Annotated[Time, Meta(description="When its latest applied update was received.")]
    topic: Annotated[str, Meta(description="Where that update is in Kafka: topic, partition, offset.")]
    partition: int
    offset: int


class AppliedRules(Struct):
    """What the policies decide for the SKU in the channel."""

    channel: str
    revision: Annotated[int, Meta(description="How much of the log of policies the answer is made by.")]
    strategy: str
    priority: Annotated[
        list[str], Meta(description="In their turn; by their recorded reliability, if it is decided so.")
    ]
    safety_units: int
    safety_percent: int
    channel_share_percent: int
    reliability_percent_min: int


class RowAnswer(Struct):
    """Everything that is known of a SKU."""

    sku: str
    available_quantity: int
    certain_quantity: int
    hoped_for_quantity: int
    backorderable_quantity: int
    on_hand: Annotated[int, Meta(description="The plain sum over all sources, below zero and stale ones too.")]
    reserved: Annotated[
        int, Meta(description="Units that reservations have, over all sources and channels, backordered ones too.")
    ]
    rules: AppliedRules
    last_updated: Time
    version: str
    freshness: Freshness
    sources: list[SourceAnswer]


encode_json = msgspec.json.Encoder().encode


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339; what lies past the year 9999 as the end of that year."""
    at = EPOCH + timedelta(milliseconds=min(max(ms, 0), LATEST_MS))
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"


class Answers:
    """Turns rows into answers at one moment.

    Args:
        generation: of inventory.stock.
        updates: inventory.updates as deployed.
        now_ms: the moment.
        heard_at_ms: when Kafka was last heard from, 0 for never.
        policies: that hold at the moment.
        channel: that is asked for.
    """

    def __init__(
        self, generation: str, updates: str, now_ms: int, heard_at_ms: int, policies: Policies, channel: str
    ) -> None:
        self._policies = policies
        self._channel = channel
        self._generation = generation
        self._updates = updates
        self.now_ms = now_ms
        self._confirmed_at = rfc3339(heard_at_ms) if heard_at_ms else None

    def available(self, row: StockRow) -> Availability:
        """What can be sold of a row at the moment, in the channel."""
        return availability(row, self._policies.rules(row.sku, self._channel), self.now_ms, self._channel)

    def item(self, row: StockRow, answer: Availability) -> Item:
        """A row as an item of a list."""
        return Item(
            row.sku,
            answer.available,
            [SupplierQuantity(*part) for part in answer.by_supplier.items()],
            [LocationQuantity(*part) for part in answer.by_location.items()],
            answer.certain,
            answer.hoped_for,
            answer.backorderable,
            rfc3339(row.changed_at),
            self._version(row),
            self._freshness(answer),
        )

    def row(self, row: StockRow, answer: Availability, partition: int) -> RowAnswer:
        """A whole row, which lies in `partition`."""
        sources = zip(row.sources.values(), answer.parts, strict=True)
        rules = self._policies.rules(row.sku, self._channel)
        return RowAnswer(
            row.sku,
            answer.available,
            answer.certain,
            answer.hoped_for,
            answer.backorderable,
            row.on_hand,
            answer.reserved,
            self._applied(rules),
            rfc3339(row.changed_at),
            self._version(row),
            self._freshness(answer),
            [self._source(source, part, partition, rules) for source, part in sources],
        )

    def etag(self, row: StockRow, answer: Availability) -> str:
        """The row's entity tag, without quotes and without the sign of weakness."""
        stale, revision = len(answer.stale), self._policies.revision
        return self._version(row) + (f"-s{stale}" if stale else "") + (f"-p{revision}" if revision else "")

    def _applied(self, rules: Rules) -> AppliedRules:
        return AppliedRules(
            self._channel, self._policies.revision, rules.strategy, list(rules.priority), rules.safety_units,
            rules.safety_percent, rules.channel_share_percent, rules.reliability_percent_min,
        )  # fmt: skip

    def _version(self, row: StockRow) -> str:
        return f"{self._generation}-{row.version}"

    def _freshness(self, answer: Availability) -> Freshness:
        oldest = answer.oldest_observed_at
        return Freshness(
            None if oldest is None else rfc3339(oldest),
            None if oldest is None else max(0, self.now_ms - oldest),
            [SourceName(*name) for name in answer.stale],
            self._confirmed_at,
        )

    def _source(self, source: Source, part: Part, partition: int, rules: Rules) -> SourceAnswer:
        count, percent = source.count, rules.reliability_percent(part.supplier)
        return SourceAnswer(
            supplier_id=part.supplier,
            location_id=part.location,
            on_hand=part.on_hand,
            reserved=part.reserved,
            available=max(0, part.on_hand - part.reserved),
            anchored=count is not None,
            counts=part.units,
            standing=part.standing,
            reliability_percent=None if percent == UNKNOWN else percent,
            at_most=part.at_most,
            count=None
            if count is None
            else CountAnswer(COUNT_KINDS[count.kind], count.id, rfc3339(count.at), count.quantity),
            deltas=[DeltaAnswer(d.id, rfc3339(d.at), d.quantity, d.order_ref) for d in source.deltas],
            carried=source.carried,
            floor_at=None if source.floor_at is None else rfc3339(source.floor_at),
            basis=BASES[source.basis],
            incoming=[IncomingAnswer(rfc3339(i.expected_at), i.quantity) for i in source.incoming],
            stale_after_ms=source.stale_after_ms,
            observed_at=rfc3339(observed_at(source)),
            received_at=rfc3339(source.received_at),
            topic=self._updates,
            partition=partition,
            offset=source.offset,
        )
