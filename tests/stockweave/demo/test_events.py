from __future__ import annotations

from collections import defaultdict

import polars as pl

from inventory.stock import REPLACED, TOO_OLD, Limits, StockUpdate, apply
from schemas.rows import Source
from stockweave.demo.check import expected
from stockweave.demo.events import (
    DAY_MS,
    OPENED_AT_MS,
    OPENING,
    RECOUNT,
    SALE,
    WEEKS,
    Stream,
    retail_stream,
)
from stockweave.demo.windows import updates

SOURCE = ["product", "store"]
WEEK_MS = 7 * DAY_MS


def once(stream: Stream, *kinds: int) -> pl.DataFrame:
    events = stream.events.filter(~pl.col("repeat"))
    return events.filter(pl.col("kind").is_in(kinds)) if kinds else events


def test_the_data_is_the_one_the_demo_speaks_of(whole: Stream) -> None:
    assert (whole.lines, whole.zero_lines, whole.sources) == (1_469_307, 8_869, 631_479)
    assert whole.events["product"].n_unique() == 68_509
    assert whole.events["store"].n_unique() == 457
    assert whole.events.height == 2_831_137


def test_the_same_seed_gives_the_same_stream_and_another_seed_another(some_lines: pl.DataFrame, part: Stream) -> None:
    assert retail_stream(some_lines, seed=7).events.equals(part.events)
    assert retail_stream(some_lines.sample(fraction=1, shuffle=True, seed=1), seed=7).events.equals(part.events)
    other = retail_stream(some_lines, seed=8).events
    for column in ("quantity", "at", "late", "repeat"):
        assert not other[column].equals(part.events[column]), column


def test_every_line_with_a_quantity_is_one_sale_of_minus_that_at_its_time(lines: pl.DataFrame, whole: Stream) -> None:
    columns = ["store", "product", "basket", "quantity", "at"]
    sold = lines.filter(pl.col("quantity") != 0).select(columns).sort(columns)
    sales = once(whole, SALE).select("store", "product", basket="ref", quantity=-pl.col("quantity"), at="at")
    assert sales.sort(columns).equals(sold)


def test_every_source_opens_with_a_count_of_0_8_to_1_5_times_what_it_sells(lines: pl.DataFrame, whole: Stream) -> None:
    sold = lines.group_by(SOURCE).agg(sold=pl.col("quantity").cast(pl.Int64).sum())
    opening = once(whole, OPENING).join(sold, on=SOURCE, how="full", validate="1:1")
    assert opening.height == whole.sources
    assert opening.null_count().select("store", "sold").row(0) == (0, 0)
    assert opening["at"].unique().to_list() == [OPENED_AT_MS]
    # To the nearest unit, so in tenths half a unit is 5.
    low, high = pl.col("sold") * 8 - 5, pl.col("sold") * 15 + 5
    assert opening.filter((pl.col("quantity") * 10).is_between(low, high)).height == whole.sources
    many = opening.filter(pl.col("sold") >= 1000).select(pl.col("quantity") / pl.col("sold")).to_series()
    assert many.min() < 0.82  # type: ignore[operator]
    assert many.max() > 1.48  # type: ignore[operator]
    assert opening.filter(pl.col("quantity") < pl.col("sold")).height > 20_000  # these run below zero


def test_each_week_two_percent_of_the_sources_are_recounted_once_and_never_at_the_time_of_a_sale(whole: Stream) -> None:
    recounts = once(whole, RECOUNT)
    weeks = recounts.group_by(week="ref").agg(
        sources=pl.struct(SOURCE).n_unique(),
        recounts=pl.len(),
        first=pl.col("at").min() - OPENED_AT_MS,
        last=pl.col("at").max() - OPENED_AT_MS,
    )
    assert sorted(weeks["week"]) == list(range(WEEKS))
    assert weeks["sources"].unique().to_list() == weeks["recounts"].unique().to_list() == [12_630]
    assert (
        weeks.filter(pl.col("first") // WEEK_MS == pl.col("week"), pl.col("last") // WEEK_MS == pl.col("week")).height
        == WEEKS
    )
    at_one_time = once(whole, SALE, OPENING).join(recounts, on=[*SOURCE, "at"], how="inner")
    assert at_one_time.height == 0


def test_a_recount_finds_the_true_stock_less_at_most_two_percent_and_never_less_than_nothing(part: Stream) -> None:
    stock: dict[tuple[int, int], int] = {}
    shrunk = recounts = below_zero = 0
    for product, store, kind, quantity in once(part).sort("at", "kind").select(*SOURCE, "kind", "quantity").iter_rows():
        source = (product, store)
        if kind == SALE:
            stock[source] += quantity
            continue
        if kind == RECOUNT:
            true = max(0, stock[source])
            assert true * 98 <= quantity * 100 <= true * 100
            recounts += 1
            shrunk += quantity < true
            below_zero += stock[source] < 0
        stock[source] = quantity
    assert recounts > 5_000
    assert shrunk > 10
    assert below_zero > 10


def test_three_percent_come_twice_word_for_word_within_a_day_of_the_first(whole: Stream) -> None:
    first, repeats = once(whole), whole.events.filter("repeat")
    assert repeats.height == round(first.height * 0.03)
    content = [*SOURCE, "kind", "quantity", "at", "ref"]
    pairs = repeats.join(first, on=content, how="inner", validate="1:1")
    assert pairs.height == repeats.height
    after = pairs.select(after=pl.col("arrival") - pl.col("arrival_right")).to_series()
    assert after.is_between(1, DAY_MS).all()


def test_two_percent_come_late_by_up_to_a_day_after_a_later_event_of_their_own_source(whole: Stream) -> None:
    first = once(whole).sort([*SOURCE, "at", "kind", "ref"])
    late = first.with_columns(next=pl.col("at").shift(-1).over(SOURCE)).filter("late")
    assert late.height == round(first.height * 0.02)
    assert (
        late.filter(pl.col("arrival") - pl.col("at") <= DAY_MS, pl.col("arrival") > pl.col("next")).height
        == late.height
    )
    assert first.filter(~pl.col("late"), pl.col("arrival") != pl.col("at")).height == 0


def test_events_come_in_the_order_of_their_arrival(whole: Stream) -> None:
    assert whole.events["arrival"].is_sorted()


def test_the_rule_refuses_no_event_of_the_stream_as_too_old_and_ends_with_the_expected_stock(part: Stream) -> None:
    sources: dict[tuple[str, str], Source] = defaultdict(Source)
    outcomes: dict[str, int] = defaultdict(int)
    sent = updates(part.events)
    for row in sent.iter_rows(named=True):
        update = StockUpdate(
            sku=row["sku"],
            supplier_id=row["supplier"],
            location_id="default",
            update_id=row["update_id"],
            kind=row["kind"],
            quantity=row["quantity"],
            observed_at=row["at"],
            received_at=row["at"],
            basis="ON_HAND",
            order_ref=None,
            incoming=[],
            stale_after_ms=None,
            feed="test",
        )
        outcomes[apply(sources[row["sku"], row["supplier"]], update, Limits())] += 1
    assert set(outcomes) == {"applied", "duplicate", "superseded"}, (TOO_OLD, REPLACED)
    wanted = {(sku, supplier): source.on_hand for (sku, supplier), source in sources.items()}
    assert {(sku, supplier): n for sku, supplier, n in expected(sent).iter_rows()} == wanted
