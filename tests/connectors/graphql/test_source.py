"""Feeds that are queries of GraphQL, against a server that executes them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from connectors.configuration.load import load
from connectors.graphql import cost
from connectors.graphql.source import KIND
from connectors.http.client import WAITS_MAX
from connectors.kinds import kinds
from connectors.testing.faults import Fault, Faults, planned
from connectors.testing.graphql_server import GraphqlSupplier, Row
from connectors.testing.http_server import HttpSupplier
from stockweave.errors import Rejected, Retriable
from tests.connectors.polling import Feed
from tests.connectors.running import SIMPLE, Running, repeats, units

SECRET = "s3cret-of-acme"
QUERY = """
query ($first: Int!, $after: String, $since: Float, $search: String) {
  products(first: $first, after: $after, changedSince: $since, search: $search) {
    nodes { code stock }
    pageInfo { hasNextPage endCursor }
  }
}
"""
INFO = "$.data.products.pageInfo"
PAGES = {"next": f"{INFO}.endCursor", "more": f"{INFO}.hasNextPage", "variable": "after"}
ROWS = ("data", "products", "nodes")
CREDENTIALS = {"kind": "bearer", "token": {"env": "ACME_SECRET"}}


def stock(count: int) -> list[Row]:
    return [{"code": f"s{number}", "stock": number} for number in range(count)]


def feed(supplier: GraphqlSupplier, **more: Any) -> Feed:
    options = {"url": supplier.url, "query": QUERY, "variables": {"first": 2}, "pages": PAGES} | more
    return Feed(KIND, **options)


@pytest.mark.parametrize("count", [0, 1, 4, 5])
async def test_the_pages_of_a_poll_are_all_rows_each_once(count: int) -> None:
    async with GraphqlSupplier(stock(count)) as supplier, feed(supplier) as acme:
        polled = await acme.poll(*ROWS)
        assert polled.rows(*ROWS) == supplier.rows
        assert polled.observed_at == sorted(polled.observed_at)


async def test_without_pages_there_is_one_request() -> None:
    async with GraphqlSupplier(stock(5)) as supplier, feed(supplier, pages=None) as acme:
        assert (await acme.poll(*ROWS)).rows(*ROWS) == stock(2)
        assert len(supplier.faults.seen) == 1


async def test_of_an_answer_with_errors_nothing_is_used() -> None:
    faults = Faults([None, Fault.REFUSED])
    since = {"variable": "since", "format": "unix_ms"}
    async with GraphqlSupplier(stock(4), faults) as supplier, feed(supplier, since=since) as acme:
        with pytest.raises(Retriable, match="answers with errors: the stock of a warehouse is not known"):
            await acme.poll(*ROWS)
        assert acme.state == {}
        assert (await acme.poll(*ROWS)).rows(*ROWS) == supplier.rows


async def test_a_query_that_the_supplier_cannot_execute_says_why() -> None:
    async with GraphqlSupplier(stock(4)) as supplier, feed(supplier, query=QUERY.replace("code", "kode")) as acme:
        with pytest.raises(Retriable, match="Cannot query field 'kode' on type 'Product'"):
            await acme.poll(*ROWS)


async def test_an_error_of_the_suppliers_is_told_short_and_without_our_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACME_SECRET", SECRET)
    async with (
        GraphqlSupplier(stock(1), Faults([None, Fault.REFUSED]), token="another") as supplier,
        feed(supplier, credentials=CREDENTIALS) as acme,
    ):
        with pytest.raises(Retriable, match=r"errors: Bearer \*\*\* is unknown$"):
            await acme.poll(*ROWS)
        supplier.token = SECRET
        supplier.message = "it\nbroke " * 1_000
        with pytest.raises(Retriable, match=r"errors: it broke it broke") as why:
            await acme.poll(*ROWS)
        assert len(str(why.value)) < 350


async def test_what_changed_is_asked_for_less_the_overlap() -> None:
    since = {"variable": "since", "format": "unix_ms", "overlap_s": 10.0}
    async with GraphqlSupplier(stock(4)) as supplier, feed(supplier, since=since) as acme:
        before_ms = int(time.time()) * 1_000
        assert len((await acme.poll(*ROWS)).rows(*ROWS)) == 4
        assert acme.state["since_ms"] >= before_ms
        supplier.rows[3]["changedMs"] = acme.state["since_ms"] - 10_000.0
        supplier.rows[2]["changedMs"] = acme.state["since_ms"] - 10_001.0
        async with feed(supplier, since=since, version=2) as other:
            other.state = acme.state
            assert len((await other.poll(*ROWS)).rows(*ROWS)) == 4
        assert [row["code"] for row in (await acme.poll(*ROWS)).rows(*ROWS)] == ["s3"]


async def test_the_time_may_stand_in_a_text() -> None:
    since = {"variable": "search", "text": "updated_at:>='{since}'", "overlap_s": 0.0}
    async with GraphqlSupplier(stock(1)) as supplier, feed(supplier, since=since) as acme:
        await acme.poll(*ROWS)
        acme.state |= {"since_ms": 1_790_000_000_123}
        await acme.poll(*ROWS)
        assert supplier.searched == [None, "updated_at:>='2026-09-21T14:13:20.123Z'"]


async def test_a_page_that_names_itself_as_the_next_is_refused() -> None:
    faults = Faults([None, Fault.DUPLICATE])
    async with GraphqlSupplier(stock(6), faults) as supplier, feed(supplier) as acme:
        with pytest.raises(Rejected, match="names itself as the next"):
            await acme.poll(*ROWS)


@pytest.mark.parametrize(("option", "path"), [("more", "$.data.more"), ("more", f"{INFO}.endCursor"), ("next", "$.no")])
async def test_pages_that_do_not_tell_of_the_next_are_refused(option: str, path: str) -> None:
    async with GraphqlSupplier(stock(6)) as supplier, feed(supplier, pages=PAGES | {option: path}) as acme:
        with pytest.raises(Rejected, match="ask for it in query"):
            await acme.poll(*ROWS)


async def test_queries_wait_until_they_can_be_paid_for() -> None:
    async with GraphqlSupplier(stock(8), points=3.0) as supplier, feed(supplier) as acme:
        assert (await acme.poll(*ROWS)).rows(*ROWS) == supplier.rows
        assert supplier.throttled == 0


async def test_a_query_that_could_not_be_paid_for_is_made_again_when_it_can() -> None:
    async with GraphqlSupplier(stock(1), points=2.0) as supplier, feed(supplier) as acme:
        supplier.emptied = 1
        assert (await acme.poll(*ROWS)).rows(*ROWS) == supplier.rows
        assert supplier.throttled == 1


async def test_a_supplier_that_does_not_say_how_long_is_waited_for_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cost, "UNTOLD_S", 0.1)
    async with GraphqlSupplier(stock(1), points=2.0, restored=50.0) as supplier, feed(supplier) as acme:
        supplier.tells_cost = False
        supplier.emptied = 1
        assert (await acme.poll(*ROWS)).rows(*ROWS) == supplier.rows
        assert supplier.throttled == 1


async def test_a_query_that_can_be_paid_for_only_in_a_long_time_fails_the_poll() -> None:
    async with GraphqlSupplier(stock(1), points=2.0, restored=0.01) as supplier, feed(supplier) as acme:
        supplier.emptied = 1
        with pytest.raises(Retriable, match="wants us to wait") as why:
            await acme.poll(*ROWS)
        assert (supplier.throttled, why.value.retry_after_s) == (1, 201)


async def test_a_query_that_can_never_be_paid_for_fails_the_poll() -> None:
    async with (
        GraphqlSupplier(stock(1), points=2.0, restored=1_000.0) as supplier,
        feed(supplier, variables={"first": 3}) as acme,
    ):
        with pytest.raises(Retriable, match="ask for fewer rows a page"):
            await acme.poll(*ROWS)
        assert supplier.throttled == 1 + WAITS_MAX


async def test_a_query_is_sent_to_nobody_else_on_an_answers_word() -> None:
    async with GraphqlSupplier(stock(1)) as supplier, HttpSupplier([]) as gone:
        async with feed(supplier, url=f"{gone.origin}/moved?to={gone.origin}/stock") as acme:
            with pytest.raises(Retriable, match="/moved answers 302"):
                await acme.poll(*ROWS)
        assert [seen.path for seen in gone.faults.seen] == ["/moved"]


async def test_an_answer_that_is_not_graphql_is_retriable() -> None:
    async with GraphqlSupplier(stock(1)) as supplier, feed(supplier, url=f"{supplier.origin}/shop") as acme:
        with pytest.raises(Retriable, match="answers 404"):
            await acme.poll(*ROWS)
    async with GraphqlSupplier(stock(1)) as supplier, feed(supplier, url=f"{supplier.origin}/empty") as acme:
        with pytest.raises(Retriable, match="answers 200 with neither data nor errors"):
            await acme.poll(*ROWS)


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_goes_wrong_a_poll_that_ends_well_has_all_rows(seed: int) -> None:
    kinds_of_faults = sorted(set(Fault) - {Fault.HANGS, Fault.EXPIRED, Fault.REORDERED})
    faults = Faults(planned(seed, 40, 0.2, kinds_of_faults))
    async with GraphqlSupplier(stock(9), faults) as supplier, feed(supplier) as acme:
        for _ in range(42):
            try:
                polled = await acme.poll(*ROWS)
            except (Retriable, Rejected):
                continue
            break
        assert polled.rows(*ROWS) == supplier.rows


def configured(**source: Any) -> dict[str, Any]:
    options = {"kind": "graphql", "query": QUERY, "variables": {"first": 2}, "pages": PAGES} | source
    mapping = SIMPLE | {"sku": "$.code", "quantity": "$.stock"}
    records = "$.data.products.nodes[*]"
    return {
        "source": options,
        "format": {"format": "json", "records": records},
        "mapping": mapping,
        "poll": {"every_s": 0.1},
    }


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"pages": PAGES | {"variable": "cursor"}}, "the query has no $cursor; declare it"),
        ({"since": {"variable": "from"}}, "the query has no $from; declare it"),
        ({"since": {"variable": "search", "text": "updated_at"}}, "needs {since} in text"),
        ({"pages": PAGES | {"next": "$.data["}}, "is no JSONPath"),
    ],
)
def test_what_cannot_work_is_told_before_anything_runs(running: Running, source: dict[str, Any], words: str) -> None:
    running.configure("acme", stock=configured(url="http://acme.example/graphql", **source))
    assert [words in fault for fault in load(running.folder, kinds()).faults] == [True]


async def test_pages_come_to_kafka_whatever_the_supplier_does(running: Running) -> None:
    faults = Faults([None, Fault.REFUSED, None, Fault.THROTTLED, Fault.TRUNCATED])
    async with GraphqlSupplier(stock(6), faults) as supplier:
        running.configure("acme", stock=configured(url=supplier.url))
        async with running:
            await running.until(lambda: set(units(running.updates())) == {f"s{n}" for n in range(6)})
            updates = running.updates()
    assert units(updates) == {f"s{n}": n for n in range(6)}
    assert (repeats(updates), running.letters()) == (0, [])
