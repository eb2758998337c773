"""The independent check: what every SKU must be, computed in polars from what was sent, against what is answered.

Invariant: nothing here comes from the service's own rule; the two must meet in the numbers alone. Called by `command`,
the chaos runner and tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from stockweave.demo.client import Answer, Client
from stockweave.demo.windows import updates

_SOURCE = ["sku", "supplier"]
_SHOWN_MAX = 10
_PARTS = 8


def expected(sent: pl.DataFrame) -> pl.DataFrame:
    """On hand of each source: sku, supplier, on_hand (units), one row a source.

    `sent` has the columns of `windows.updates`, in any order and with any repetition. One update stands
    for each id: the later, then the smaller. The latest count stands (then the larger id); deltas after it add.
    """
    is_count = pl.col("kind") == "COUNT"
    standing = (
        sent.lazy()
        .select(*_SOURCE, "update_id", "at", "quantity", count=is_count)
        .unique()
        .sort("at", -pl.col("quantity").cast(pl.Int64))
        .unique([*_SOURCE, "count", "update_id"], keep="last")
        .collect()
    )
    counts = (
        standing.lazy()
        .filter("count")
        .sort("at", "update_id")
        .unique(_SOURCE, keep="last")
        .select(*_SOURCE, counted="quantity", counted_at="at")
    )
    return (
        standing.lazy()
        .join(counts, on=_SOURCE, how="left")
        .with_columns(adds=~pl.col("count") & (pl.col("counted_at").is_null() | (pl.col("at") > pl.col("counted_at"))))
        .group_by(_SOURCE)
        .agg(
            on_hand=pl.col("counted").first().fill_null(0).cast(pl.Int64)
            + pl.col("quantity").cast(pl.Int64).filter("adds").sum()
        )
        .sort(_SOURCE)
        .collect()
    )


def expected_of(events: pl.DataFrame) -> pl.DataFrame:
    """`expected` of a stream's events (or the first of them), an eighth of the SKUs at a time to bound memory."""
    parts = (events.filter(pl.col("product") % _PARTS == part) for part in range(_PARTS))
    return pl.concat([expected(updates(part)) for part in parts]).sort(_SOURCE)


def availability(sources: pl.DataFrame) -> pl.DataFrame:
    """One row a SKU, by SKU: sku, available_quantity (what is below zero counts as nothing), suppliers, on_hands."""
    return (
        sources.lazy()
        .sort(_SOURCE)
        .group_by("sku", maintain_order=True)
        .agg(available_quantity=pl.col("on_hand").clip(lower_bound=0).sum(), suppliers="supplier", on_hands="on_hand")
        .collect()
    )


@dataclass(frozen=True)
class Difference:
    """One SKU whose answer is not what it must be; None stands for a number that one side does not have.

    `suppliers`: (supplier, expected, answered) where these two differ.
    """

    sku: str
    expected: int
    answered: int | None
    suppliers: list[tuple[str, int | None, int | None]]

    def __str__(self) -> str:
        lines = [f"SKU {self.sku}: expected {self.expected} available, answered {_shown(self.answered)}"]
        for supplier, wanted, got in self.suppliers[:_SHOWN_MAX]:
            lines.append(f"  {supplier}: expected {_shown(wanted)}, answered {_shown(got)}")
        if (more := len(self.suppliers) - _SHOWN_MAX) > 0:
            lines.append(f"  and {more} more suppliers")
        return "\n".join(lines)


@dataclass
class CheckReport:
    """How many SKUs were read, and which differ (the first of them by SKU are kept)."""

    skus: int = 0
    differ: int = 0
    first: list[Difference] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"checked {self.skus:,} SKUs: {self.differ:,} differ"


async def check(
    sources: pl.DataFrame,
    url: str,
    *,
    token: str = "",
    skus_per_call: int = 400,
    concurrency: int = 2,
    patience_s: float = 120,
    progress: Callable[[int], None] = lambda _: None,
) -> CheckReport:
    """Read every SKU of `sources` (as `expected` gives them) from the service and compare, supplier by supplier.

    `token` goes with every read as `min_offset`. Raises `Retriable` when the service stays away for `patience_s`.
    """
    skus, report, started = availability(sources), CheckReport(), time.monotonic()
    chunks = skus.iter_slices(skus_per_call)
    differences: list[Difference] = []
    async with Client(url, concurrency, patience_s) as client:

        async def read() -> None:
            for chunk in chunks:  # one iterator for all readers: each takes the next
                params = {"sku": ",".join(chunk["sku"])} | ({"min_offset": token} if token else {})
                status, answer = await client.get("/api/v1/inventory", params)
                differences.extend(compare(chunk, answer if status == 200 else {"items": []}))
                report.skus += chunk.height
                progress(chunk.height)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(concurrency):
                    tasks.create_task(read())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None  # the others are the same outage, seen by other readers
    report.differ, report.first = len(differences), sorted(differences, key=lambda d: d.sku)[:_SHOWN_MAX]
    report.seconds = time.monotonic() - started
    return report


def compare(chunk: pl.DataFrame, answer: Answer) -> list[Difference]:
    """The SKUs of `chunk` (rows of `availability`) that `answer` gets wrong or leaves out."""
    items: list[Any] = answer.get("items", [answer])
    answered = {item["sku"]: item for item in items if "available_quantity" in item}
    different = []
    for sku, available, suppliers, on_hands in chunk.iter_rows():
        wanted = list(zip(suppliers, on_hands, strict=True))
        item = answered.get(sku)
        got = sorted((s["supplierId"], s["quantity"]) for s in item["suppliers"]) if item else []
        if item is None or item["available_quantity"] != available or got != wanted:
            got_of, wanted_of = dict(got), dict(wanted)
            lines = [(s, wanted_of.get(s), got_of.get(s)) for s in sorted(wanted_of.keys() | got_of.keys())]
            unlike = [line for line in lines if line[1] != line[2]]
            different.append(Difference(sku, available, item and item["available_quantity"], unlike))
    return different


def _shown(number: int | None) -> str:
    return "none" if number is None else str(number)
