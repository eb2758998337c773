from __future__ import annotations

import json
from collections import defaultdict

import polars as pl

from stockweave.demo.events import Stream
from stockweave.demo.windows import SPAN_MS_MAX, updates, windows


def test_requests_hold_every_event_as_sent_in_the_order_of_its_supplier(part: Stream) -> None:
    events = part.events.head(20_000)
    wanted: dict[str, list[dict[str, object]]] = defaultdict(list)
    for row in updates(events).iter_rows(named=True):
        line = {"sku": row["sku"], "quantity": row["quantity"], "timestamp": row["at"], "updateId": row["update_id"]}
        wanted[row["supplier"]].append(line | ({"kind": "DELTA"} if row["kind"] == "DELTA" else {}))
    got: dict[str, list[dict[str, object]]] = defaultdict(list)
    for window in windows(events, events_max=3_000):
        assert len({request.supplier_id for request in window}) == len(window)
        for request in window:
            lines = [json.loads(line) for line in request.body.decode("ascii").splitlines()]
            assert len(lines) == request.lines
            got[request.supplier_id] += lines
    assert got == wanted


def test_update_ids_are_of_basket_and_product_and_unlike_within_a_source(whole: Stream) -> None:
    once = whole.events.filter(~pl.col("repeat"))
    sale = updates(once.filter(pl.col("kind") == 1).head(1)).row(0, named=True)
    basket = once.filter(pl.col("kind") == 1)["ref"][0]
    assert sale["update_id"] == f"{basket}-{sale['sku']}"
    some = updates(once.filter(pl.col("product") % 10 == 0))
    assert some.select("sku", "supplier", "update_id").n_unique() == some.height


def test_a_window_is_bounded_in_events_and_in_time_so_that_a_repeat_of_it_is_within_the_horizon(whole: Stream) -> None:
    arrival, start = whole.events["arrival"], 0
    for window in windows(whole.events):
        lines = sum(request.lines for request in window)
        assert 0 < lines <= 100_000
        assert arrival[start + lines - 1] - arrival[start] <= SPAN_MS_MAX
        start += lines
    assert start == whole.events.height
    behind = whole.events.select((pl.col("arrival") - pl.col("at")).max()).item()
    assert behind + SPAN_MS_MAX < 7 * 86_400_000
