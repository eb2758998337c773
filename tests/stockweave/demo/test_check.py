from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import polars as pl
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from stockweave.demo.check import Difference, availability, check, compare, expected, expected_of
from stockweave.demo.events import Stream
from stockweave.demo.windows import updates
from tests.stockweave.demo.naive import Sent, on_hand_of_all

SCHEMA = {
    "sku": pl.String,
    "supplier": pl.String,
    "kind": pl.String,
    "quantity": pl.Int32,
    "at": pl.Int64,
    "update_id": pl.String,
}
ONE = st.builds(
    Sent,
    sku=st.sampled_from(["a", "b"]),
    supplier=st.sampled_from(["s", "t"]),
    kind=st.sampled_from(["COUNT", "DELTA"]),
    quantity=st.integers(-3, 9),
    at=st.integers(1, 4),
    update_id=st.sampled_from(["x", "y", "z"]),
)


def frame(sent: list[Sent]) -> pl.DataFrame:
    return pl.DataFrame(sent, schema=SCHEMA, orient="row")


@settings(max_examples=200, deadline=None)
@given(st.lists(ONE, min_size=1, max_size=14))
def test_the_columns_compute_what_a_plain_loop_over_the_updates_computes(sent: list[Sent]) -> None:
    got = {(sku, supplier): on_hand for sku, supplier, on_hand in expected(frame(sent)).iter_rows()}
    assert got == on_hand_of_all(sent)


def test_they_agree_on_real_events_too_and_when_computed_in_parts(part: Stream) -> None:
    events = part.events.head(30_000)
    sent = [Sent(*row) for row in updates(events).select(*SCHEMA).iter_rows()]
    by_parts = expected_of(events)
    assert by_parts.equals(expected(updates(events)))
    assert {(sku, supplier): on_hand for sku, supplier, on_hand in by_parts.iter_rows()} == on_hand_of_all(sent)


SOURCES = pl.DataFrame(
    {"sku": ["a", "a", "b", "c"], "supplier": ["s", "t", "s", "t"], "on_hand": [5, -2, -1, 7]},
)


def right_answers() -> dict[str, dict[str, Any]]:
    return {
        "a": {"sku": "a", "available_quantity": 5, "suppliers": [line("t", -2), line("s", 5)]},
        "b": {"sku": "b", "available_quantity": 0, "suppliers": [line("s", -1)]},
        "c": {"sku": "c", "available_quantity": 7, "suppliers": [line("t", 7)]},
    }


def line(supplier: str, quantity: int) -> dict[str, Any]:
    return {"supplierId": supplier, "quantity": quantity}


def differences(answers: dict[str, dict[str, Any]]) -> list[Difference]:
    return compare(availability(SOURCES), {"items": list(answers.values())})


def test_right_answers_differ_in_nothing() -> None:
    assert differences(right_answers()) == []


def test_a_wrong_total_a_wrong_supplier_a_missing_one_and_one_too_many_all_differ() -> None:
    answers = right_answers()
    answers["a"] = {"sku": "a", "available_quantity": 5, "suppliers": [line("s", 5), line("t", -1)]}
    answers["b"]["available_quantity"] = -1
    answers["c"]["suppliers"].append(line("u", 0))
    assert differences(answers) == [
        Difference("a", 5, 5, [("t", -2, -1)]),
        Difference("b", 0, -1, []),
        Difference("c", 7, 7, [("u", None, 0)]),
    ]
    del answers["a"]["suppliers"][1]
    assert differences(answers)[0] == Difference("a", 5, 5, [("t", -2, None)])
    assert "t: expected -2, answered none" in str(differences(answers)[0])


def test_a_sku_that_is_not_answered_differs_with_all_its_suppliers() -> None:
    answers = right_answers()
    del answers["a"]
    assert differences(answers) == [Difference("a", 5, None, [("s", 5, None), ("t", -2, None)])]


@pytest.fixture
async def shelf() -> AsyncIterator[tuple[str, dict[str, dict[str, Any]], list[Any]]]:
    """A server that gives out the answers it was handed, as the service words them, and what it was asked."""
    answers, asked = right_answers(), list[Any]()

    async def get(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        if len(asked) == 1:
            return web.json_response({"title": "behind"}, status=503, headers={"Retry-After": "1"})
        known = [answers[sku] for sku in request.query["sku"].split(",") if sku in answers]
        if "," in request.query["sku"]:
            return web.json_response({"items": known})
        return web.json_response(known[0]) if known else web.json_response({"title": "unknown"}, status=404)

    app = web.Application()
    app.router.add_get("/api/v1/inventory", get)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", answers, asked
    await runner.cleanup()


async def test_every_sku_is_read_once_also_when_the_service_is_behind_at_first(
    shelf: tuple[str, dict[str, dict[str, Any]], list[Any]],
) -> None:
    url, _, asked = shelf
    report = await check(SOURCES, url, token="0-5", skus_per_call=2, concurrency=1)
    assert str(report) == "checked 3 SKUs: 0 differ"
    assert asked == [{"sku": sku, "min_offset": "0-5"} for sku in ("a,b", "a,b", "c")]


async def test_the_first_that_differs_is_the_first_by_sku_and_an_unknown_sku_differs(
    shelf: tuple[str, dict[str, dict[str, Any]], list[Any]],
) -> None:
    url, answers, _ = shelf
    del answers["c"]
    answers["b"]["available_quantity"] = 3
    report = await check(SOURCES, url, skus_per_call=1, concurrency=3)
    assert (report.skus, report.differ) == (3, 2)
    assert report.first == [Difference("b", 0, 3, []), Difference("c", 7, None, [("t", 7, None)])]
