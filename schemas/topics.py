"""The one catalogue of topics: name, key, value, partitions, cleanup, who writes, who reads.

Creation (`schemas.admin`), the docs (`docs/topics.md`, by `python -m schemas.topics`) and the registry's subjects come
from it. Topics that are folded together are marked `folded`: they have the same number of partitions.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

DAY_MS = 86_400_000
KEPT = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
BROKER_TIMED = {"message.timestamp.type": "LogAppendTime"}
"""Records bear the time at which the broker took them, which grows with the offsets (as far as the clocks of successive
leaders agree): so what was known at a time is a prefix of the log."""
COMPACTED = {"cleanup.policy": "compact", "segment.bytes": str(128 << 20), "min.cleanable.dirty.ratio": "0.3"}

COMPACTION_LAG_MS = 600_000
"""For so long no record of the rows is compacted away, so that who reads them within that time meets every one
(`state.catching_up`)."""

MESSAGE_BYTES_MAX = 32 << 20
"""Of a row or a dead letter. A row grows with its sources and their recent deltas (hundreds of stores that sell one
article hundreds of times a week make megabytes of it), and a dead letter is an update and its headers. For Kafka a
request counts as a message, and a worker's transaction goes out as one for each partition."""
LARGE = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}


def _days(n: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(n * DAY_MS)}


@dataclass(frozen=True)
class Topic:
    """One topic. `schema`: the value's Avro schema, None where the value is not ours; `wire`: how it is encoded."""

    name: str
    key: str
    schema: str | None
    wire: str
    writers: str
    readers: str
    doc: str
    config: dict[str, str] = field(default_factory=dict)
    folded: bool = False
    partitions: int | None = None  # None: as many as the setting says

    @property
    def policy(self) -> str:
        """Cleanup in words."""
        if self.config["cleanup.policy"] == "compact":
            return "compacted"
        retention_ms = int(self.config["retention.ms"])
        return "kept" if retention_ms < 0 else f"{retention_ms // DAY_MS} days"


AVRO, MSGPACK, JSON, RAW = "Avro, Confluent frame", "MessagePack arrays", "JSON", "as received"

UPDATES = Topic(
    "inventory.updates", "SKU", "StockUpdate", AVRO, "connectors", "workers",
    "What suppliers say: the log that everything is rebuilt from.", KEPT | BROKER_TIMED, folded=True,
)  # fmt: skip
COMMANDS = Topic(
    "inventory.commands", "SKU, or reservation of several", "ReservationCommand", AVRO, "api", "workers",
    "What storefronts ask for; decided once, not replayed.", _days(7), folded=True,
)  # fmt: skip
RESERVATIONS = Topic(
    "inventory.reservations", "SKU, or reservation of several", "ReservationFact", AVRO, "workers",
    "workers, replays, the shop's systems",
    "Decisions on commands: facts.", KEPT | LARGE, folded=True,
)  # fmt: skip
STOCK = Topic(
    "inventory.stock", "SKU; reserved keys for positions and holds (schemas/keys.py)", "StockRow", MSGPACK, "workers",
    "workers (restore), api",
    "One row per SKU, and one position per partition; a rebuilt generation n has its own topic, inventory.stock.g<n>.",
    COMPACTED | LARGE | {"min.compaction.lag.ms": str(COMPACTION_LAG_MS)}, folded=True,
)  # fmt: skip
GENERATIONS = Topic(
    "inventory.generations", "`stock`", None, JSON, "`stockweave rebuild`", "workers, api, commands",
    "Which generation of inventory.stock is live: one record (schemas/generations.py), in one partition.",
    COMPACTED, partitions=1,
)  # fmt: skip
RESERVATION_STEPS = Topic(
    "inventory.reservation-steps", "SKU, or reservation for answers", "ReservationCommand", AVRO, "workers", "workers",
    "What passes between lines of a reservation of several SKUs and its coordinator.", _days(7) | LARGE, folded=True,
)  # fmt: skip
POLICIES = Topic(
    "inventory.policies", "scope", "Policy", AVRO, "`stockweave policies`", "api, workers, commands",
    "How availability is computed; earlier versions of a policy stay for at least 90 days.",
    COMPACTED | {"min.compaction.lag.ms": str(90 * DAY_MS)}, partitions=1,
)  # fmt: skip
ALERTS = Topic(
    "inventory.alerts", "SKU", "StockAlert", AVRO, "workers", "the shop's systems",
    "Out of stock, back, low, oversold: told once, when it becomes so.", _days(30) | LARGE, folded=True,
)  # fmt: skip
DEAD_LETTERS = Topic(
    "inventory.dead-letters", "as received", None, RAW, "workers, connectors",
    "engineers, connectors (parked rows)",
    "What could not be used: the original bytes, with position and reason in the headers.", KEPT | LARGE,
)  # fmt: skip
SETTLED = Topic(
    "inventory.dead-letters-settled", "partition-offset of the letter", None, JSON, "`stockweave dlq`, connectors",
    "`stockweave dlq`, connectors",
    "Which dead letters were retried or dropped, and when: `dlq list` shows the others.",
    COMPACTED, partitions=1,
)  # fmt: skip
FEEDS = Topic(
    "inventory.feeds", "supplier/feed", None, JSON, "connectors", "connectors, api (health)",
    "How far each feed has been read (connectors/runner/progress.py), and its health (schemas/feed_health.py); all of "
    "a supplier is in one partition, and whoever has it runs its feeds.",
    COMPACTED | LARGE, partitions=8,
)  # fmt: skip
RECEIVED = Topic(
    "inventory.received", "supplier/feed", None, RAW, "connectors", "connectors",
    "What suppliers sent by webhook, verified and not read yet: each feed reads its own (connectors/inbound/).",
    _days(14) | LARGE, partitions=8,
)  # fmt: skip
SKU_MAP = Topic(
    "inventory.sku-map", "supplier, U+001F, the supplier's SKU", None, JSON, "`stockweave skus`",
    "connectors, commands",
    "What suppliers' SKUs are called with us (schemas/sku_map.py); in one partition.", COMPACTED | LARGE, partitions=1,
)  # fmt: skip

CATALOGUE = (
    UPDATES, COMMANDS, RESERVATIONS, STOCK, GENERATIONS, RESERVATION_STEPS, POLICIES, ALERTS, DEAD_LETTERS, SETTLED,
    FEEDS, RECEIVED, SKU_MAP,
)  # fmt: skip

FOLDED_SOURCES = (UPDATES,)
"""The topics that a worker consumes, folded into `STOCK`."""


def subjects(prefix: str) -> dict[str, str]:
    """Registry subject of each schema that travels in Avro, by schema name (TopicNameStrategy, by its first topic)."""
    travel = [t for t in CATALOGUE if t.schema is not None and t.wire == AVRO]
    return {t.schema: f"{prefix}{t.name}-value" for t in reversed(travel) if t.schema is not None}


def _newest(schema: str) -> str:
    """The file of a schema's newest version."""
    files = (Path(__file__).parent / "avro").glob(f"{schema}.*.avsc")
    return max(files, key=lambda file: int(file.name.split(".")[1])).name


def markdown() -> str:
    """The catalogue as a page."""
    lines = [
        "# Topics",
        "",
        "Written by `python -m schemas.topics > docs/topics.md`; the catalogue is `schemas/topics.py`.",
        "",
        "| topic | key | value | wire | cleanup | written by | read by | what |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for t in CATALOGUE:
        value = f"[{t.schema}](../schemas/avro/{_newest(t.schema)})" if t.schema else "bytes"
        row = (f"`{t.name}`", t.key, value, t.wire, t.policy, t.writers, t.readers, t.doc)
        lines.append(f"| {' | '.join(row)} |")
    lines += [
        "",
        "## Settings",
        "",
        "Each is created with these; where topics are created by hand, they need the same.",
        "",
        "| topic | settings |",
        "|---|---|",
    ]
    lines += [f"| `{t.name}` | {', '.join(f'`{k}={v}`' for k, v in t.config.items())} |" for t in CATALOGUE]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
