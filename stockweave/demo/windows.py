"""Cuts a stream into windows, and a window into one NDJSON request per supplier, straight from columns.

Invariant: within a supplier the order of the stream is kept, and no window spans more than `SPAN_MS_MAX`, so that a
request sent again (its answer was lost) is never older than the horizon of seven days. Called by `command`, benchmarks
and the chaos runner; `feed` sends the requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from stockweave.demo.events import DAY_MS, OPENING, SALE

EVENTS_MAX = 100_000
SPAN_MS_MAX = 4 * DAY_MS  # and at most two days behind their source: six of the seven


@dataclass(frozen=True, slots=True)
class Request:
    """One body of NDJSON for one supplier; `lines` is how many updates it holds."""

    supplier_id: str
    body: bytes
    lines: int


def updates(events: pl.DataFrame) -> pl.DataFrame:
    """The events as what is sent: sku, supplier, kind (COUNT, DELTA), quantity (units), at (ms), update_id."""
    return events.select(
        sku=pl.col("product").cast(pl.String),
        supplier=_supplier(),
        kind=pl.when(pl.col("kind") == SALE).then(pl.lit("DELTA")).otherwise(pl.lit("COUNT")),
        quantity="quantity",
        at="at",
        update_id=_update_id(),
    )


def windows(
    events: pl.DataFrame, events_max: int = EVENTS_MAX, span_ms_max: int = SPAN_MS_MAX
) -> Iterator[list[Request]]:
    """The requests of one window after another; memory is that of one window."""
    arrival, start = events["arrival"], 0
    while start < events.height:
        end = int(arrival.search_sorted(arrival[start] + span_ms_max, side="right"))
        end = min(end, start + events_max)
        yield _requests(events.slice(start, end - start))
        start = end


def _requests(window: pl.DataFrame) -> list[Request]:
    """A request per supplier of the window, the largest first."""
    grouped = (
        window.lazy()
        .select("store", supplier=_supplier(), line=_line())
        .group_by("store", maintain_order=True)
        .agg(pl.col("supplier").first(), body=pl.col("line").str.join(""), lines=pl.len())
        .sort("lines", descending=True, maintain_order=True)
        .select("supplier", "body", "lines")
        .collect()
    )
    return [Request(supplier, body.encode(), lines) for supplier, body, lines in grouped.iter_rows()]


def _supplier() -> pl.Expr:
    return pl.format("store-{}", "store")


def _update_id() -> pl.Expr:
    """Of basket and product for a sale; counts are named for what they are."""
    return (
        pl.when(pl.col("kind") == SALE)
        .then(pl.format("{}-{}", "ref", "product"))
        .when(pl.col("kind") == OPENING)
        .then(pl.format("opening-{}", "product"))
        .otherwise(pl.format("recount-{}-{}", "ref", "product"))
    )


def _line() -> pl.Expr:
    """One update as JSON with its newline; ids are digits, letters and dashes, so nothing needs escaping."""
    # COUNT is the endpoint's default kind: not said, it need not be parsed.
    tail = pl.when(pl.col("kind") == SALE).then(pl.lit('","kind":"DELTA"}\n')).otherwise(pl.lit('"}\n'))
    names = (pl.lit(name) for name in ('{"sku":"', '","quantity":', ',"timestamp":', ',"updateId":"'))
    values = (pl.col("product"), pl.col("quantity"), pl.col("at"), _update_id())
    return pl.concat_str(*(part for pair in zip(names, values, strict=True) for part in pair), tail)
