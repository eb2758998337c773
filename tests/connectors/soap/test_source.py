"""Feeds that are operations of SOAP, against a server with a WSDL."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from connectors.soap.source import KIND
from connectors.testing.faults import Fault, Faults
from connectors.testing.http_server import HttpSupplier
from connectors.testing.soap_server import SOAP_12, STOCK, TYPES, Row, SoapSupplier
from stockweave.errors import Rejected, Retriable
from tests.connectors.polling import Feed
from tests.connectors.running import SIMPLE, Running, units

SECRET = "s3cret-of-acme"
SECURITY = {"user": "we", "password": {"env": "ACME_SECRET"}}
KEY = {"kind": "api_key", "header": "X-Api-Key", "value": {"env": "ACME_SECRET"}}


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_SECRET", SECRET)


def stock(count: int) -> list[Row]:
    return [{"code": f"s{number}", "stock": number} for number in range(count)]


def feed(supplier: SoapSupplier, **more: Any) -> Feed:
    options = {"wsdl": supplier.wsdl, "operation": "GetStock", "arguments": {"warehouse": "north"}} | more
    return Feed(KIND, **options)


async def polled(acme: Feed) -> dict[str, int]:
    """Units by code, of one answer."""
    [body] = (await acme.poll()).bodies
    items = etree.fromstring(body).iter(f"{{{STOCK}}}item")
    return {item.findtext(f"{{{STOCK}}}code") or "": int(item.findtext(f"{{{STOCK}}}stock") or "") for item in items}


@pytest.mark.parametrize("port", [None, "Stock11", "Stock12"])
async def test_an_operation_is_called_as_its_wsdl_says(port: str | None) -> None:
    async with SoapSupplier(stock(3)) as supplier, feed(supplier, port=port, service="Stock") as acme:
        supplier.rows[1]["warehouse"] = "south"
        assert await polled(acme) == {"s0": 0, "s2": 2}
        sent = etree.fromstring(supplier.faults.seen[-1].body)
        assert (etree.QName(sent).namespace == SOAP_12) == (port == "Stock12")


async def test_the_wsdl_is_loaded_once() -> None:
    async with SoapSupplier(stock(1)) as supplier, feed(supplier) as acme:
        await polled(acme)
        await polled(acme)
        paths = [seen.path for seen in supplier.faults.seen]
        assert paths == ["/stock.wsdl", "/stock.xsd", "/stock", "/stock"]


async def test_a_wsdl_may_be_a_file_beside_its_types(tmp_path: Path) -> None:
    async with SoapSupplier(stock(2)) as supplier:
        (tmp_path / "stock.wsdl").write_text(supplier.description())
        (tmp_path / "stock.xsd").write_text(TYPES)
        async with feed(supplier, wsdl=str(tmp_path / "stock.wsdl")) as acme:
            assert await polled(acme) == {"s0": 0, "s1": 1}
        assert [seen.path for seen in supplier.faults.seen] == ["/stock"]


async def test_a_wsdl_that_is_not_there_is_retriable(tmp_path: Path) -> None:
    async with SoapSupplier([]) as supplier:
        async with feed(supplier, wsdl=str(tmp_path / "no.wsdl")) as acme:
            with pytest.raises(Retriable, match=r"no\.wsdl cannot be read"):
                await acme.poll()
        async with feed(supplier, wsdl=f"{supplier.origin}/no.wsdl") as acme:
            with pytest.raises(Retriable, match=r"no\.wsdl answers 404"):
                await acme.poll()


@pytest.mark.parametrize("where", ["stranger", "file"])
async def test_what_a_wsdl_imports_from_elsewhere_is_not_read(where: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside.xsd"
    outside.write_text(TYPES)
    async with SoapSupplier([]) as stranger, SoapSupplier(stock(1)) as supplier:
        supplier.types = f"{stranger.origin}/stock.xsd" if where == "stranger" else outside.as_uri()
        async with feed(supplier, credentials=KEY) as acme:
            with pytest.raises(Rejected, match="which is not beside it"):
                await acme.poll()
        supplier.types = f"{stranger.origin}/stock.xsd" if where == "stranger" else str(outside)
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "stock.wsdl").write_text(supplier.description())
        async with feed(supplier, wsdl=str(tmp_path / "in" / "stock.wsdl")) as acme:
            with pytest.raises(Rejected, match="which is not beside it"):
                await acme.poll()
        assert stranger.faults.seen == []


async def test_a_wsdl_with_a_document_type_is_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text(SECRET)
    async with SoapSupplier(stock(1)) as supplier, feed(supplier) as acme:
        supplier.doctype = f'<!DOCTYPE definitions [<!ENTITY e SYSTEM "{outside.as_uri()}">]>'
        with pytest.raises(Rejected, match="DTDForbidden"):
            await acme.poll()


async def test_what_is_no_wsdl_is_refused() -> None:
    async with (
        HttpSupplier(stock(1)) as other,
        SoapSupplier([]) as supplier,
        feed(supplier, wsdl=f"{other.origin}/stock?key=k") as acme,
    ):
        with pytest.raises(Rejected, match="/stock is no WSDL that can be used"):
            await acme.poll()


async def test_a_service_elsewhere_is_not_called_on_a_wsdls_word() -> None:
    async with SoapSupplier(stock(1)) as stranger, SoapSupplier(stock(1)) as supplier:
        supplier.elsewhere = f"{stranger.origin}/stock"
        async with feed(supplier, credentials=KEY) as acme:
            with pytest.raises(Rejected, match="set url to its address"):
                await acme.poll()
        assert stranger.faults.seen == []
        async with feed(supplier, url=f"{supplier.origin}/stock") as acme:
            assert await polled(acme) == {"s0": 0}
        assert stranger.faults.seen == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"operation": "GetStocks"}, "it has Stock/Stock11/GetStock, Stock/Stock12/GetStock"),
        ({"port": "Stock13"}, "no such operation"),
        ({"service": "Stocks"}, "no such operation"),
        ({"arguments": {}}, "Missing element warehouse"),
        ({"arguments": {"warehouse": "north", "colour": "red"}}, "unexpected keyword argument 'colour'"),
    ],
)
async def test_what_the_wsdl_does_not_have_is_refused(options: dict[str, Any], words: str) -> None:
    async with SoapSupplier(stock(1)) as supplier, feed(supplier, **options) as acme:
        with pytest.raises(Rejected, match=words):
            await acme.poll()


@pytest.mark.parametrize("digest", [False, True])
async def test_a_username_token_proves_who_we_are(digest: bool) -> None:
    async with (
        SoapSupplier(stock(1), user=("we", SECRET)) as supplier,
        feed(supplier, ws_security=SECURITY | {"digest": digest}) as acme,
    ):
        assert await polled(acme) == {"s0": 0}
        assert (SECRET.encode() in supplier.faults.seen[-1].body) != digest


async def test_a_fault_fails_the_poll_and_tells_no_secret() -> None:
    async with (
        SoapSupplier(stock(1), user=("somebody", SECRET)) as supplier,
        feed(supplier, ws_security=SECURITY) as acme,
    ):
        with pytest.raises(Retriable, match=r"answers with a fault: unknown \*\*\*$"):
            await acme.poll()


@pytest.mark.parametrize("port", ["Stock11", "Stock12"])
async def test_a_fault_is_told_short(port: str) -> None:
    since = {"argument": "changedSince"}
    faults = Faults([None, None, Fault.REFUSED])
    async with SoapSupplier(stock(1), faults) as supplier, feed(supplier, port=port, since=since) as acme:
        supplier.message = "closed " * 1_000
        with pytest.raises(Retriable, match="answers with a fault: closed closed") as why:
            await acme.poll()
        assert len(str(why.value)) < 300
        assert acme.state == {}
        assert await polled(acme) == {"s0": 0}


async def test_what_changed_is_asked_for_less_the_overlap() -> None:
    since = {"argument": "changedSince", "overlap_s": 10.0}
    async with SoapSupplier(stock(2)) as supplier, feed(supplier, since=since) as acme:
        supplier.rows[0]["changed"] = "2026-09-21T14:13:09.999Z"
        supplier.rows[1]["changed"] = "2026-09-21T14:13:10.000Z"
        assert await polled(acme) == {"s0": 0, "s1": 1}
        acme.state |= {"since_ms": 1_790_000_000_000}
        assert await polled(acme) == {"s1": 1}
        async with feed(supplier, since=since, version=2) as other:
            other.state = {**acme.state, "since_ms": 1_790_000_000_000}
            assert await polled(other) == {"s0": 0, "s1": 1}


@pytest.mark.parametrize(
    ("fault", "words"), [(Fault.BROKEN, "answers 500"), (Fault.HANGS, "TimeoutError"), (Fault.TRUNCATED, "Payload")]
)
@pytest.mark.parametrize("request_number", [0, 1, 2])
async def test_whatever_request_fails_the_next_poll_is_whole(fault: Fault, words: str, request_number: int) -> None:
    faults = Faults([*[None] * request_number, fault])
    async with SoapSupplier(stock(2), faults) as supplier, feed(supplier, timeout_s=0.5) as acme:
        with pytest.raises(Retriable, match=words):
            await acme.poll()
        assert await polled(acme) == {"s0": 0, "s1": 1}


async def test_a_feed_that_stops_while_its_wsdl_is_on_its_way_leaves_no_thread() -> None:
    others = set(threading.enumerate())
    async with SoapSupplier([], Faults([Fault.HANGS])) as supplier, feed(supplier, timeout_s=600) as acme:
        poll = asyncio.create_task(acme.poll())
        await supplier.faults.hanging.wait()
        [thread] = [each for each in threading.enumerate() if each.name.startswith("wsdl") and each not in others]
        poll.cancel()
        await asyncio.gather(poll, return_exceptions=True)
        await asyncio.to_thread(thread.join, 10.0)
        assert not thread.is_alive()


async def test_an_answer_that_is_no_envelope_is_retriable() -> None:
    async with SoapSupplier(stock(1)) as supplier, feed(supplier, url=f"{supplier.origin}/page") as acme:
        with pytest.raises(Retriable, match="with an envelope of SOAP"):
            await acme.poll()


async def test_rows_of_an_answer_come_to_kafka_by_xpath(running: Running) -> None:
    faults = Faults([None, None, Fault.REFUSED, Fault.THROTTLED])
    async with SoapSupplier(stock(3), faults, user=("we", SECRET)) as supplier:
        source = {
            "kind": "soap",
            "wsdl": supplier.wsdl,
            "operation": "GetStock",
            "arguments": {"warehouse": "north"},
            "ws_security": SECURITY,
        }
        form = {"format": "xml", "row": f"{{{STOCK}}}item", "namespaces": {"s": STOCK}}
        mapping = SIMPLE | {"sku": "s:code", "quantity": "s:stock"}
        running.configure(
            "acme", stock={"source": source, "format": form, "mapping": mapping, "poll": {"every_s": 5.0}}
        )
        async with running:
            updates = await running.until_updates(3)
    assert units(updates) == {"s0": 0, "s1": 1, "s2": 2}
    assert running.letters() == []
