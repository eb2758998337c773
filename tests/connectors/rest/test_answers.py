"""Answers over HTTP that are cut, are of no use, or come from a clock that is wrong: nothing of them is missed."""

from __future__ import annotations

import time
import zlib
from typing import Any

import orjson
import pytest
from aiohttp import web

from connectors.http.client import Answer
from connectors.rest.source import KIND
from connectors.testing.faults import Faults, Served
from connectors.testing.http_server import HttpSupplier
from stockweave.errors import Retriable
from tests.connectors.polling import Feed
from tests.connectors.rest.test_source import stock
from tests.connectors.running import SIMPLE, Running, units


async def test_what_changed_before_a_suppliers_clock_was_set_back_and_we_asked_is_not_missed() -> None:
    since = {"parameter": "since", "format": "unix_ms", "overlap_s": 0.0}
    async with HttpSupplier(stock(2)) as supplier, Feed(KIND, url=f"{supplier.origin}/stock", since=since) as feed:
        supplier.changed_s, supplier.clock_ahead_s = int(time.time()), -60.0
        await feed.poll()
        feed.state["polled_ms"] -= 600_000  # ten minutes ago
        supplier.clock_ahead_s = -3_600.0
        supplier.rows[1]["changed_ms"] = (supplier.changed_s - 3_900) * 1_000  # five minutes ago
        assert (await feed.poll()).rows() == []
        assert (await feed.poll()).rows() == supplier.rows[1:]
        assert (await feed.poll()).rows() == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "bare deflate"])
async def test_an_answer_that_was_packed_is_whole_or_the_poll_fails(encoding: str) -> None:
    rows = orjson.dumps(stock(50))
    packer = zlib.compressobj(wbits={"gzip": 31, "deflate": 15, "bare deflate": -15}[encoding])
    packed = packer.compress(rows) + packer.flush()
    given = [packed, packed[: len(packed) // 2], rows]

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=given.pop(0), headers={"Content-Encoding": encoding.rpartition(" ")[2]})

    app = web.Application()
    app.router.add_get("/stock", answer)
    async with Served(app, Faults()) as supplier, Feed(KIND, url=f"{supplier.origin}/stock") as feed:
        assert (await feed.poll()).rows() == stock(50)
        for said in ("breaks off", "and is not"):
            with pytest.raises(Retriable, match=said):
                await feed.poll()


async def test_a_date_that_no_calendar_has_keeps_nobody_from_being_read() -> None:
    said = {"Date": "Mon, 01 Jan 99999 00:00:00 GMT"}
    assert Answer(200, said, None, None, b"", 1_790_000_000_000, None).as_of_ms == 1_790_000_000_000


@pytest.mark.parametrize("since", [None, {"parameter": "since", "format": "unix_ms", "overlap_s": 0.0}])
async def test_what_was_asked_for_when_the_answer_could_not_be_read_is_asked_for_again(
    running: Running, since: dict[str, Any] | None
) -> None:
    async with HttpSupplier(stock(3)) as supplier:
        supplier.changed_s = int(time.time())
        source = {"kind": "rest", "url": f"{supplier.origin}/stock", "since": since}
        mapping = SIMPLE | {"sku": "$.code", "quantity": "$.stock"}
        running.configure(
            "acme", stock={"source": source, "format": {"format": "json"}, "mapping": mapping, "poll": {"every_s": 0.1}}
        )
        async with running:
            await running.until_updates(3)
            supplier.says = b"<html>back soon"
            supplier.rows[0] |= {"stock": 7, "changed_ms": time.time_ns() // 1_000_000}
            await running.until(lambda: len(running.letters()) > 1)
            supplier.says = b""
            await running.until(lambda: units(running.updates()) == {"s0": 7, "s1": 1, "s2": 2})
