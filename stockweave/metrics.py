"""Every metric of every process, each once: its name, its labels and what it tells.

A module constant a metric, so that a misspelt one fails the type check. Labels are bounded: never a SKU or a supplier.
With PROMETHEUS_MULTIPROC_DIR set, the processes of one machine are read together at the API's /metrics.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from schemas.rows import OUTCOMES

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_EVENTS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)

# -- worker

EVENTS = Counter("stockweave_events", "Updates folded and committed, by outcome.", ["outcome"])
EVENTS_BY_OUTCOME = [EVENTS.labels(outcome) for outcome in OUTCOMES]
BATCH_EVENTS = Histogram("stockweave_batch_events", "Updates in one transaction.", buckets=_EVENTS)
COMMIT_SECONDS = Histogram("stockweave_commit_seconds", "From a folded batch to its rows on disk.", buckets=_SECONDS)
LAG_EVENTS = Gauge(
    "stockweave_lag_events", "Updates that wait to be folded.", ["partition"], multiprocess_mode="livemostrecent"
)
