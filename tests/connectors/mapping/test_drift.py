"""What is told of fields that are other ones than they were, and that a quiet supplier is left alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from connectors.formats.json_rows import read_lines
from connectors.formats.rows import Names, Rows
from connectors.mapping.drift import TOLD_MAX, Alert, Profile, Seen, compare, learn, tell
from connectors.mapping.profile import Tally
from connectors.mapping.rules import Mapping

MAPPING = Mapping.model_validate({"version": 1, "sku": "code", "quantity": "stock", "location": "place"})
DAY_MS = 86_400_000
Row = dict[str, str | None]


class Watched:
    """A feed's profile, document after document, a day between them."""

    def __init__(self, mapping: Mapping = MAPPING) -> None:
        self.mapping = mapping
        self.profile = Profile(version=1)
        self.at_ms = 1_790_000_000_000

    def rows(self, rows: list[Row], **more: Any) -> list[Alert]:
        columns = {path: pa.array([row.get(path) for row in rows], pa.string()) for path in self.mapping.paths}
        return self.see(Rows(columns, pa.array(range(len(rows)), pa.int64()), lambda _: b"", [], **more))

    def see(self, *several: Rows, later_ms: int = DAY_MS) -> list[Alert]:
        tally = Tally(self.mapping)
        for rows in several:
            tally.add(rows)
        self.at_ms += later_ms
        changes = compare(self.profile, tally, 50)
        learnt = learn(self.profile, tally, changes, self.at_ms)
        self.profile, alerts = tell(learnt, changes, Seen("acme/stock", "a", self.at_ms))
        return alerts


def usual(n: int) -> Row:
    return {"code": f"SKU-{n:04}", "stock": str(n * 7 % 500), "place": "berlin" if n % 3 else "ulm"}


def document(change: Callable[[int], Row] = lambda _: {}, count: int = 100) -> list[Row]:
    return [usual(n) | change(n) for n in range(count)]


CHANGES: list[tuple[Callable[[int], Row], tuple[str, str], list[str]]] = [
    (lambda n: {"stock": "plenty" if n % 2 else "few"}, ("stock", "type"), ["few", "plenty"]),
    (lambda n: {"stock": f"{n}.5"}, ("stock", "type"), ["0.5", "1.5", "2.5"]),
    (lambda n: {"stock": None}, ("stock", "vanished"), ["0", "7", "14"]),
    (lambda n: {"stock": str(n * 1_000_000)}, ("stock", "range"), ["1000000", "2000000", "3000000"]),
    (lambda n: {"stock": "0"}, ("stock", "range"), ["0"]),
    (lambda n: {"stock": str(-1 - n)}, ("stock", "range"), ["-1", "-2", "-3"]),
    (lambda n: {"code": f"{70 + n}"}, ("code", "type"), ["70", "71", "72"]),
    (lambda n: {"code": f"{n:03}-{'A' * 20}"}, ("code", "length"), [f"{n:03}-{'A' * 20}" for n in range(3)]),
    (lambda n: {"place": "berlin" if n % 5 else "jena"}, ("place", "values"), ["jena"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "told", "sample"), CHANGES)
def test_a_change_is_told_once_with_a_sample_and_once_when_it_goes_back(
    change: Callable[[int], Row], told: tuple[str, str], sample: list[str]
) -> None:
    feed = Watched()
    assert [feed.rows(document()) for _ in range(3)] == [[], [], []]
    [alert] = feed.rows(document(change))
    assert (alert.field, alert.change, alert.sample) == (*told, sample)
    assert feed.rows(document(change)) == []
    back = feed.rows(document())
    assert [each.field for each in back] == [told[0]]
    assert feed.rows(document()) == []


def test_what_comes_and_goes_is_told_three_times_a_day() -> None:
    feed = Watched()
    told = 0
    for n in range(40):
        rows = document((lambda _: {"stock": "many"}) if n % 2 else lambda _: {})
        feed.at_ms -= DAY_MS - 60_000
        told += len(feed.rows(rows))
    assert told == TOLD_MAX


def test_few_rows_say_nothing() -> None:
    feed = Watched()
    feed.rows(document())
    assert feed.rows(document(lambda _: {"stock": "many"}, count=49)) == []


def test_columns_that_come_and_go_together_are_told_as_one() -> None:
    feed = Watched()
    feed.rows(document(), header=["code", "stock", "place"])
    [alert] = feed.rows(document(), header=["code", "stock", "place", "colour"])
    assert (alert.field, alert.change, alert.sample) == ("colour", "appeared", [])
    [alert] = feed.rows(document(), header=["code", "stock", "place", "size"])
    assert (alert.field, alert.change, alert.now) == ("colour", "vanished", "no such column; new: size")


def test_fields_of_json_that_the_mapping_does_not_name_are_seen_and_their_values_are_not() -> None:
    feed = Watched(Mapping.model_validate({"version": 1, "sku": "$.code", "quantity": "$.stock"}))

    def told(extra: str) -> list[tuple[str, str, list[str]]]:
        lines = "".join(f'{{"code":"s{n}","stock":{n}{extra}}}\n' for n in range(100))
        alerts = feed.see(*read_lines([lines.encode()], feed.mapping.paths))
        return [(alert.field, alert.change, alert.sample) for alert in alerts]

    assert told(',"colour":"red"') == []
    assert told(',"token":"hush"') == [("$.colour", "vanished", []), ("$.token", "appeared", [])]
    assert told(',"token":"hush"') == []
    assert b"hush" not in repr(feed.profile).encode()


def many(day: int, n: int) -> Row:
    return {"place": f"p{day}-{n}", "code": "x" * 5_000}


def test_a_profile_is_bounded_whatever_comes() -> None:
    feed = Watched()
    for day in range(5):
        names = Names(100, {f"$.{day}-{n}" * 40: 100 for n in range(5_000)})
        feed.rows(document(partial(many, day)), names=names)
    assert feed.profile.names is not None
    assert len(feed.profile.names) <= 200
    assert max(map(len, feed.profile.names)) <= 100
    assert feed.profile.fields["place"].values is None
    assert all(len(text) <= 100 for field in feed.profile.fields.values() for text in field.sample)


def quiet(random_: random.Random, catalogue: list[tuple[str, float, str]]) -> list[Row]:
    """What a supplier tells of some of its articles, as it is on that day."""
    rows: list[Row] = []
    for sku, usual_units, place in random_.choices(catalogue, k=random_.choice((50, 80, 300))):
        units = int(random_.expovariate(1 / usual_units)) if random_.random() > 0.15 else 0
        rows.append({"code": sku, "stock": str(units) if random_.random() > 0.02 else None, "place": place})
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_a_quiet_supplier_is_left_alone(seed: int) -> None:
    """docs/connectors/drift.md tells the rate over more seeds."""
    random_ = random.Random(seed)
    catalogue = [
        (f"S{random_.randrange(10**6)}", random_.lognormvariate(3, 1.5) + 1, random_.choice("abcd"))
        for _ in range(5_000)
    ]
    feed = Watched()
    told = [alert for _ in range(250) for alert in feed.rows(quiet(random_, catalogue))]
    assert told == []
