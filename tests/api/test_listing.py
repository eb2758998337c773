"""The list: every SKU once, whatever changes meanwhile, and every filter by an independent look at the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from api import listing
from schemas.rows import StockRow
from stockweave.broker.kafka import EmbeddedKafka
from tests.api.stock import T0, Reader, Stock, row

LIST = "/api/v1/inventory"


def rows() -> list[StockRow]:
    made = []
    for i in range(300):
        parts = {f"s{i % 3}__north": i % 4 - 1, f"s{i % 5}__south": 0}
        made.append(row(f"sku-{i:03}", changed_at=T0 + i, **parts))
    return [*made, row("\u00e9t\u00e9", s0=1), row("Zebra", s0=1), row("\U0001f600", s0=1)]


@pytest.fixture(scope="module")
async def reader(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reader]:
    stock = Stock(broker.bootstrap_servers, tmp_path_factory.mktemp("list"))
    stock.write(*rows())
    async with Reader(stock) as opened:
        yield opened


async def walk(reader: Reader, between: Callable[[], None] = lambda: None, **query: Any) -> list[Any]:
    """All items of all pages."""
    items: list[Any] = []
    page = await reader.get(LIST, **query)
    while True:
        items += page["items"]
        if page["next"] is None:
            return items
        between()
        page = await reader.get(LIST, cursor=page["next"], **query)


@pytest.mark.parametrize("limit", [1, 7, 101, 303, 1000])
async def test_pages_hold_every_sku_once_in_order(reader: Reader, limit: int) -> None:
    skus = [item["sku"] for item in await walk(reader, limit=limit)]
    assert skus == sorted(r.sku for r in rows())


async def test_the_last_page_says_so(reader: Reader) -> None:
    assert (await reader.get(LIST, limit=303))["next"] is None
    assert (await reader.get(LIST, limit=302))["next"] is not None
    assert len((await reader.get(LIST))["items"]) == 100


@pytest.mark.parametrize(
    ("query", "keep"),
    [
        ({"supplier": "s1"}, lambda r: any(k.startswith("s1\x1f") for k in r.sources)),
        ({"location": "south"}, lambda r: any(k.endswith("\x1fsouth") for k in r.sources)),
        ({"supplier": "s4", "location": "south"}, lambda r: "s4\x1fsouth" in r.sources),
        ({"supplier": "s4", "location": "north"}, lambda r: False),  # each is there, but not the two in one source
        ({"in_stock": "true"}, lambda r: any(s.on_hand > 0 for s in r.sources.values())),
        ({"in_stock": "false"}, lambda r: not any(s.on_hand > 0 for s in r.sources.values())),
        ({"updated_since": T0 + 290}, lambda r: r.changed_at >= T0 + 290),
        ({"updated_since": "2023-11-14T22:13:20.290Z"}, lambda r: r.changed_at >= T0 + 290),
        (
            {"supplier": "s0", "in_stock": "true", "updated_since": T0 + 100},
            lambda r: (
                any(k.startswith("s0\x1f") for k in r.sources)
                and any(s.on_hand > 0 for s in r.sources.values())
                and r.changed_at >= T0 + 100
            ),
        ),
    ],
)
async def test_filters_keep_what_matches_and_nothing_else(
    reader: Reader, query: dict[str, Any], keep: Callable[[StockRow], bool]
) -> None:
    found = [item["sku"] for item in await walk(reader, limit=11, **query)]
    assert found == sorted(r.sku for r in rows() if keep(r))


async def test_a_request_looks_at_a_bounded_number_of_rows_and_the_cursor_goes_on(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "ROWS_SCANNED_MAX", 50)
    first = await reader.get(LIST, updated_since=T0 + 299)
    assert first["items"] == []
    assert first["next"] is not None
    assert [item["sku"] for item in await walk(reader, updated_since=T0 + 299)] == ["sku-299"]


async def test_a_page_does_not_hold_up_other_reads(reader: Reader) -> None:
    pages = asyncio.gather(*(reader.get(LIST, limit=1000) for _ in range(20)))
    assert (await reader.item("Zebra"))["available_quantity"] == 1
    assert not pages.done()
    await pages


async def test_too_many_lists_at_once_are_turned_away(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.WAITING_MAX", 0)
    await reader.get(LIST, 503)


async def test_pages_hold_every_sku_once_while_other_rows_change(stock: Stock) -> None:
    stock.write(*rows())
    version = 1

    def change() -> None:
        """New rows before, behind and between; rows rewritten and removed; none of those that must be found."""
        nonlocal version
        version += 1
        stock.write(
            *(row(f"sku-{i:03}", version=version, s9=version) for i in range(0, 300, 10)),
            row(f"sku-{version:03}a", s0=1),
            row(f"aaa-{version}", s0=1),
            row(f"zzz-{version}", s0=1),
            removed=[f"sku-{version - 1:03}a"],
        )

    async with Reader(stock) as reader:
        found = [item["sku"] for item in await walk(reader, change, limit=40)]
    assert version > 5
    assert found == sorted(set(found)), "a SKU twice, or out of order"
    assert {r.sku for r in rows()} <= set(found)
