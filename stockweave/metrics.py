"""Every metric of every process, each once: its name, its labels and what it tells.

A module constant a metric, so that a misspelt one fails the type check. Labels are bounded: never a SKU, nor a
supplier who pushes; feeds are, for they are configured.
With PROMETHEUS_MULTIPROC_DIR set, the processes of one machine are read together at the API's /metrics.
"""

from __future__ import annotations

import errno
import os
import sys

from prometheus_client import Counter, Gauge, Histogram, start_http_server, values
from prometheus_client.metrics import MetricWrapperBase

from schemas.alerts import KINDS
from schemas.rows import OUTCOMES
from stockweave.errors import Fatal

if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # The library asks for the process's id at each count; with a system call that took a tenth of the API's time for a
    # reservation. It stays the same: children are spawned, never forked.
    _PID = os.getpid()
    values.ValueClass = values.MultiProcessValue(lambda: _PID)  # type: ignore[no-untyped-call]

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EVENTS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)

# -- worker

EVENTS = Counter("stockweave_events", "Updates folded and committed, by outcome.", ["outcome"])
EVENTS_BY_OUTCOME = [EVENTS.labels(outcome) for outcome in OUTCOMES]
BATCH_EVENTS = Histogram("stockweave_batch_events", "Updates in one transaction.", buckets=_EVENTS)
COMMIT_SECONDS = Histogram("stockweave_commit_seconds", "From a folded batch to its rows on disk.", buckets=_SECONDS)
ALERTS = Counter("stockweave_alerts", "Alerts committed, by kind (docs/alerts.md).", ["kind"])
ALERTS_BY_KIND = {kind: ALERTS.labels(kind) for kind in KINDS}
ROWS_LOOKED_AT = Counter("stockweave_rows_looked_at", "Rows that no update or command changed, looked at for alerts.")
LAG_EVENTS = Gauge(
    "stockweave_lag_events", "Updates that wait to be folded.", ["partition"], multiprocess_mode="livemostrecent"
)
PARTITIONS_NOT_READY = Gauge(
    "stockweave_partitions_not_ready",
    "Partitions that a worker has and does not fold yet, for they are being restored or Kafka is away.",
    multiprocess_mode="livesum",
)
HOLDS_FORGOTTEN = Counter(
    "stockweave_holds_forgotten", "Reservations that were over for longer than they are kept, and are forgotten."
)
WORKER_GENERATION = Gauge(
    "stockweave_worker_generation",
    "Number of the generation of rows that updates are folded into; the lowest of the workers.",
    multiprocess_mode="livemin",
)
STANDBY_LAG_RECORDS = Gauge(
    "stockweave_standby_lag_records",
    "Records of the next generation of rows that its future owner has not copied yet; 0 while there is none.",
    ["partition"],
    multiprocess_mode="livemostrecent",
)

# -- push

PUSHED_UPDATES = Counter("stockweave_pushed_updates", "Updates that suppliers pushed, by result.", ["result"])
PUSHED_ACCEPTED, PUSHED_REJECTED, PUSHED_IN_DOUBT = map(PUSHED_UPDATES.labels, ("accepted", "rejected", "in_doubt"))
PUBLISH_SECONDS = Histogram(
    "stockweave_publish_seconds",
    "From the hand-over of updates to Kafka to their acknowledgement; of one update, or of a chunk of a batch.",
    buckets=_SECONDS,
)

# -- connectors

FEEDS_RUNNING = Gauge("stockweave_feeds_running", "Feeds that this process runs.", multiprocess_mode="livesum")
FEED_POLLS = Counter("stockweave_feed_polls", "Polls of a feed that were ended, by result.", ["feed", "result"])
FEED_POLLED_AT = Gauge(
    "stockweave_feed_polled_at_seconds",
    "When a feed was last read without a failure; seconds since the epoch.",
    ["feed"],
    multiprocess_mode="max",
)
FEED_ROWS = Counter(
    "stockweave_feed_rows", "Rows of a feed that Kafka has, by what became of them.", ["feed", "result"]
)
FEED_CORRECTIONS = Counter(
    "stockweave_feed_corrections", "Rows of a feed with another count than before, for the same SKU and time.", ["feed"]
)
FEED_HELD_BACK = Counter("stockweave_feed_held_back", "Snapshots of a feed that were held back.", ["feed"])
FEED_LAG = Gauge(
    "stockweave_feed_lag_seconds",
    "From the newest time in a document until Kafka had it; the mean of the last 24 hours.",
    ["feed"],
    multiprocess_mode="livemostrecent",
)
FEED_SCORE = Gauge(
    "stockweave_feed_score",
    "How far a feed can be relied on, from 0 to 1, when it was last counted (docs/connectors/health.md).",
    ["feed"],
    multiprocess_mode="livemostrecent",
)
FEED_BREAKER = Gauge(
    "stockweave_feed_breaker",
    "Whether a feed's supplier is asked: 0 it is, 1 one feed tries whether it answers again, 2 it is left alone.",
    ["feed"],
    multiprocess_mode="livemostrecent",
)
FEED_DRIFTS = Counter(
    "stockweave_feed_drifts",
    "Changes of a feed's fields that were told (docs/connectors/drift.md).",
    ["feed", "change"],
)
INBOUND = Counter(
    "stockweave_inbound_requests",
    "Webhooks and uploads that were answered, by what became of them.",
    ["feed", "result"],
)
FEED_SECONDS = Histogram(
    "stockweave_feed_publish_seconds",
    "From the hand-over of a feed's rows to Kafka to their acknowledgement; of some thousands at once.",
    buckets=_SECONDS,
)

# -- api

_ROUTE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

VISIBLE_SECONDS = Histogram(
    "stockweave_ingest_to_visible_seconds",
    "From receipt of the oldest update of a transaction to its being readable; the last transaction of each step.",
    buckets=_SECONDS,
)
VIEW_RECORDS = Counter("stockweave_view_records", "Records, and ends, of inventory.stock that the view read.")
VIEW_LAG_RECORDS = Gauge(
    "stockweave_view_lag_records",
    "Records of inventory.stock that the view has not read.",
    ["partition"],
    multiprocess_mode="livemostrecent",
)
VIEW_ROWS = Gauge(
    "stockweave_view_rows",
    "SKUs in the view, as RocksDB reckons: too many by what was changed lately.",
    ["partition"],
    multiprocess_mode="livemostrecent",
)
VIEW_EVENTS = Gauge(
    "stockweave_view_events",
    "Updates folded since the beginning, by outcome, as far as the view has read.",
    ["outcome"],
    multiprocess_mode="livemostrecent",
)
VIEW_HEARD_AT = Gauge(
    "stockweave_view_heard_at_seconds",
    "When Kafka last told the view how far inventory.stock goes; seconds since the epoch.",
    multiprocess_mode="livemostrecent",
)
VIEW_GENERATION = Gauge(
    "stockweave_view_generation",
    "Number of the generation of rows that reads are answered from; the lowest of the API processes.",
    multiprocess_mode="livemin",
)
POLICIES_REVISION = Gauge(
    "stockweave_policies_revision",
    "How much of the log of policies the answers are made by; the lowest of the API processes.",
    multiprocess_mode="livemin",
)
VIEW_NEXT_LAG_RECORDS = Gauge(
    "stockweave_view_next_lag_records",
    "Records of the next generation of rows that the view has not read yet; 0 while there is none.",
    ["partition"],
    multiprocess_mode="livemostrecent",
)
HTTP_SECONDS = Histogram(
    "stockweave_http_seconds", "Time to answer a request, by route.", ["route"], buckets=_ROUTE_SECONDS
)
HTTP_REQUESTS = Counter("stockweave_http_requests", "Requests answered, by route and status.", ["route", "status"])

RESERVATION_COMMANDS = Counter(
    "stockweave_reservation_commands",
    "Commands of storefronts answered, by action and result: DONE, the code of a refusal, or UNDECIDED in time.",
    ["action", "result"],
)
RESERVATION_SECONDS = Histogram(
    "stockweave_reservation_seconds",
    "From a storefront's command to its outcome in the view; of one command, or of a batch.",
    buckets=_SECONDS,
)
COMMAND_PUBLISH_SECONDS = Histogram(
    "stockweave_command_publish_seconds",
    "From the hand-over of commands to Kafka to their acknowledgement; of one command, or of a batch.",
    buckets=_SECONDS,
)


def serve(host: str, port: int) -> None:
    """Answer /metrics from a thread of its own.

    Raises:
        Fatal: the port or the address cannot be had.
    """
    try:
        start_http_server(port, addr=host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Fatal(
                f"port {port} on {host} is in use, and the metrics need it: stop what listens there, or choose another "
                "with STOCKWEAVE_METRICS_PORT"
            ) from error
        raise Fatal(
            f"metrics cannot be served on {host}:{port}: {error.strerror}; mend STOCKWEAVE_METRICS_HOST or "
            "STOCKWEAVE_METRICS_PORT"
        ) from error


def markdown() -> str:
    """The list as a page."""
    lines = [
        "# Metrics",
        "",
        "Written by `python -m stockweave.metrics > docs/metrics.md`; the list is `stockweave/metrics.py`.",
        "",
        "| metric | type | labels | what |",
        "|---|---|---|---|",
    ]
    for metric in globals().values():
        if isinstance(metric, MetricWrapperBase) and not metric._labelvalues:  # not a child with its labels given
            [family] = metric.describe()
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "-"
            lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
