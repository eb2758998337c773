"""Feeds that are polled over HTTP, against a server of ours that does what suppliers' servers do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from connectors.configuration.load import load
from connectors.http import client as http_client
from connectors.kinds import kinds as all_kinds
from connectors.rest.source import KIND
from connectors.testing.faults import Fault, Faults, planned
from connectors.testing.http_server import HttpSupplier, Row
from stockweave.errors import Rejected, Retriable
from tests.connectors.polling import Feed
from tests.connectors.running import SIMPLE, Running, repeats, units

SECRET = "s3cret-of-acme"
NUMBER = {"by": "number"}
OFFSET = {"by": "offset", "size": 2}
CURSOR = {"by": "cursor", "next": "$.next", "parameter": "after"}
ADDRESS = {"by": "cursor", "next": "$.next"}
LINK = {"by": "link"}
WAYS = {"number": NUMBER, "offset": OFFSET, "cursor": CURSOR, "address": ADDRESS, "link": LINK}


def stock(count: int) -> list[Row]:
    return [{"code": f"s{number}", "stock": number} for number in range(count)]


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("ACME_SECRET", SECRET)
    return {"env": "ACME_SECRET"}


@pytest.mark.parametrize("count", [0, 1, 4, 5])
@pytest.mark.parametrize("way", WAYS)
async def test_the_pages_of_a_poll_are_all_rows_each_once(way: str, count: int) -> None:
    async with (
        HttpSupplier(stock(count)) as supplier,
        Feed(KIND, url=f"{supplier.origin}/{way}", pages=WAYS[way]) as feed,
    ):
        polled = await feed.poll("stock")
        assert polled.rows("stock") == supplier.rows
        assert polled.observed_at == sorted(polled.observed_at)


async def test_numbered_pages_end_with_one_that_is_not_full() -> None:
    pages = NUMBER | {"size": 3, "size_parameter": "size"}
    async with HttpSupplier(stock(5)) as supplier, Feed(KIND, url=f"{supplier.origin}/number", pages=pages) as feed:
        assert (await feed.poll("stock")).rows("stock") == supplier.rows
        assert [seen.params for seen in supplier.faults.seen] == [
            {"page": "1", "size": "3"},
            {"page": "2", "size": "3"},
        ]


@pytest.mark.parametrize("way", ["number", "cursor"])
async def test_a_page_that_repeats_is_refused(way: str) -> None:
    faults = Faults([None, Fault.DUPLICATE])
    async with (
        HttpSupplier(stock(6), faults) as supplier,
        Feed(KIND, url=f"{supplier.origin}/{way}", pages=WAYS[way]) as feed,
    ):
        with pytest.raises(Rejected, match="page 2 is the one before"):
            await feed.poll("stock")
        assert feed.state == {}
        assert (await feed.poll("stock")).rows("stock") == supplier.rows


@pytest.mark.parametrize("way", ["address", "link"])
async def test_a_next_page_elsewhere_is_refused_and_gets_no_credentials(way: str, secret: dict[str, str]) -> None:
    credentials = {"kind": "api_key", "header": "X-Api-Key", "value": secret}
    async with (
        HttpSupplier(stock(6)) as stranger,
        HttpSupplier(stock(6), key=SECRET) as supplier,
        Feed(KIND, url=f"{supplier.origin}/{way}", pages=WAYS[way], credentials=credentials) as feed,
    ):
        supplier.elsewhere = stranger.origin
        with pytest.raises(Rejected, match="mend pages") as why:
            await feed.poll("stock")
        assert stranger.faults.seen == []
        assert SECRET not in str(why.value)


async def test_what_has_moved_is_followed_within_its_origin_alone(secret: dict[str, str]) -> None:
    credentials = {"kind": "api_key", "header": "X-Api-Key", "value": secret}
    async with (
        HttpSupplier(stock(2)) as stranger,
        HttpSupplier(stock(2), key=SECRET) as supplier,
        Feed(KIND, url=f"{supplier.origin}/moved", params={"to": "/stock"}, credentials=credentials) as feed,
        Feed(
            KIND, url=f"{supplier.origin}/moved", params={"to": f"{stranger.origin}/stock"}, credentials=credentials
        ) as astray,
    ):
        assert (await feed.poll()).rows() == supplier.rows
        with pytest.raises(Rejected, match="has moved to"):
            await astray.poll()
        assert stranger.faults.seen == []


async def test_what_is_the_same_by_its_etag_is_not_read_again() -> None:
    async with HttpSupplier(stock(2)) as supplier, Feed(KIND, url=f"{supplier.origin}/stock") as feed:
        assert len((await feed.poll()).bodies) == 1
        assert (await feed.poll()).bodies == []
        assert supplier.faults.seen[1].headers["If-Modified-Since"] == "Mon, 21 Sep 2026 14:13:20 GMT"
        supplier.rows = stock(3)
        assert (await feed.poll()).rows() == stock(3)


async def test_that_the_first_page_is_the_same_says_nothing_of_the_others() -> None:
    async with HttpSupplier(stock(4)) as supplier, Feed(KIND, url=f"{supplier.origin}/link", pages=LINK) as feed:
        await feed.poll("stock")
        supplier.rows[3]["stock"] = 0
        assert (await feed.poll("stock")).rows("stock") == supplier.rows


@pytest.mark.parametrize("since", [None, {"parameter": "since", "format": "unix_ms"}])
@pytest.mark.parametrize("other", [{"version": 2}, {"params": {"warehouse": "2"}}])
async def test_what_was_learnt_of_a_request_holds_for_no_other_one(since: Any, other: dict[str, Any]) -> None:
    async with HttpSupplier(stock(2)) as supplier:
        options = {"url": f"{supplier.origin}/stock", "since": since}
        async with Feed(KIND, **options) as feed, Feed(KIND, **options, timeout_s=5.0) as same:
            assert len((await feed.poll()).rows()) == 2
            same.state = feed.state
            assert (await same.poll()).rows() == []
            async with Feed(KIND, **options, **other) as another:
                another.state = feed.state
                assert len((await another.poll()).rows()) == 2


async def test_what_changed_is_asked_for_by_the_suppliers_clock_less_the_overlap() -> None:
    since = {"parameter": "since", "format": "unix_ms", "overlap_s": 10.0}
    async with HttpSupplier(stock(2)) as supplier, Feed(KIND, url=f"{supplier.origin}/stock", since=since) as feed:
        supplier.clock_ahead_s = 100.0  # of the time of change, and behind ours
        supplier.changed_s = int(time.time()) - 3_600
        now_ms = (supplier.changed_s + 100) * 1_000
        supplier.rows[1]["changed_ms"] = now_ms - 10_000
        assert len((await feed.poll()).rows()) == 2
        assert (await feed.poll()).rows() == supplier.rows[1:]
        assert "since" not in supplier.faults.seen[0].params
        assert supplier.faults.seen[1].params == {"since": str(now_ms - 10_000)}


async def test_a_suppliers_clock_that_is_ahead_makes_us_miss_nothing() -> None:
    since = {"parameter": "since", "format": "unix_ms", "overlap_s": 0.0}
    async with HttpSupplier(stock(1)) as supplier, Feed(KIND, url=f"{supplier.origin}/stock", since=since) as feed:
        supplier.changed_s = int(time.time())
        supplier.clock_ahead_s = 7_200.0
        began_ms = feed.around.clock.now_ms()
        polled = await feed.poll()
        assert began_ms <= polled.state["since_ms"] <= feed.around.clock.now_ms()


async def test_a_supplier_that_wants_us_to_wait_is_not_asked_before() -> None:
    faults = Faults([None, Fault.THROTTLED, Fault.THROTTLED])
    async with (
        HttpSupplier(stock(6), faults) as supplier,
        Feed(KIND, url=f"{supplier.origin}/number", pages=NUMBER) as feed,
    ):
        assert (await feed.poll("stock")).rows("stock") == supplier.rows  # and the pages go on where they were
        assert (len(faults.seen), faults.too_early) == (6, 0)


async def test_limits_that_answers_tell_are_kept() -> None:
    faults = Faults(at_most=2)
    async with (
        HttpSupplier(stock(12), faults) as supplier,
        Feed(KIND, url=f"{supplier.origin}/number", pages=NUMBER) as feed,
    ):
        assert (await feed.poll("stock")).rows("stock") == supplier.rows
        assert (len(faults.seen), faults.too_early) == (7, 0)


async def test_a_supplier_that_goes_on_to_want_us_to_wait_fails_the_poll() -> None:
    faults = Faults([Fault.THROTTLED] * 20)
    async with HttpSupplier(stock(1), faults) as supplier, Feed(KIND, url=f"{supplier.origin}/stock") as feed:
        with pytest.raises(Retriable, match="answers 429: it wants us to wait") as why:
            await feed.poll()
        assert why.value.retry_after_s == 1
        assert len(faults.seen) == 1 + http_client.WAITS_MAX


async def test_a_supplier_that_wants_us_to_wait_for_long_fails_the_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "WAIT_S_MAX", 0.01)
    faults = Faults([Fault.THROTTLED])
    async with HttpSupplier(stock(1), faults) as supplier, Feed(KIND, url=f"{supplier.origin}/stock") as feed:
        with pytest.raises(Retriable, match="answers 429: it wants us to wait"):
            await feed.poll()
        assert len(faults.seen) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [(Fault.BROKEN, "answers 500; is it up"), (Fault.HANGS, "TimeoutError"), (Fault.TRUNCATED, "ClientPayloadError")],
)
async def test_a_poll_that_failed_is_made_again_from_its_beginning(fault: Fault, words: str) -> None:
    faults = Faults([None, fault])
    async with (
        HttpSupplier(stock(4), faults) as supplier,
        Feed(KIND, url=f"{supplier.origin}/link", pages=LINK, timeout_s=0.5) as feed,
    ):
        with pytest.raises(Retriable, match=words):
            await feed.poll("stock")
        assert (await feed.poll("stock")).rows("stock") == supplier.rows


async def test_a_supplier_that_is_not_there_is_retriable() -> None:
    async with HttpSupplier([]) as supplier:
        url = f"{supplier.origin}/stock"
    async with Feed(KIND, url=url) as feed:
        with pytest.raises(Retriable, match="does not answer"):
            await feed.poll()


async def test_an_answer_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "BODY_BYTES_MAX", 10)
    async with HttpSupplier(stock(9)) as supplier, Feed(KIND, url=f"{supplier.origin}/stock") as feed:
        with pytest.raises(Rejected, match="larger than 10 bytes"):
            await feed.poll()


async def test_a_token_that_ends_meanwhile_is_renewed_once(secret: dict[str, str]) -> None:
    faults = Faults([None, Fault.EXPIRED])
    async with HttpSupplier(stock(4), faults, client=("we", SECRET)) as supplier:
        credentials = {
            "kind": "oauth2_client",
            "token_url": f"{supplier.origin}/token",
            "client_id": "we",
            "client_secret": secret,
        }
        async with Feed(KIND, url=f"{supplier.origin}/link", pages=LINK, credentials=credentials) as feed:
            assert (await feed.poll("stock")).rows("stock") == supplier.rows
            assert supplier.tokens == 2
            faults.plan.extend([Fault.EXPIRED, Fault.EXPIRED])
            with pytest.raises(Retriable, match="answers 401; mend credentials"):
                await feed.poll("stock")
            assert supplier.tokens == 3


async def test_a_secret_that_no_header_can_have_is_told_as_that_and_nobody_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "key"
    credentials = {"kind": "api_key", "header": "X-Api-Key", "value": {"file": str(file)}}
    async with (
        HttpSupplier(stock(1)) as supplier,
        Feed(KIND, url=f"{supplier.origin}/stock", credentials=credentials) as feed,
    ):
        for written, said in (("hun\nter2\n", "header X-Api-Key has a line end"), ("\n", "is empty; write it")):
            file.write_text(written)
            with pytest.raises(Retriable, match=said) as told:
                await feed.poll("stock")
            assert "ter2" not in str(told.value)


async def test_a_token_is_asked_for_where_the_configuration_says_and_nowhere_else(secret: dict[str, str]) -> None:
    async with (
        HttpSupplier([], client=("we", SECRET)) as stranger,
        HttpSupplier(stock(1), client=("we", SECRET)) as supplier,
    ):
        credentials = {
            "kind": "oauth2_client",
            "token_url": f"{supplier.origin}/moved?to={stranger.origin}/token",
            "client_id": "we",
            "client_secret": secret,
        }
        async with Feed(KIND, url=f"{supplier.origin}/stock", credentials=credentials) as feed:
            with pytest.raises(Retriable, match="answers 302"):
                await feed.poll()
        assert stranger.asked_for_tokens == 0


CREDENTIALS: list[dict[str, Any]] = [
    {"kind": "api_key", "header": "X-Api-Key", "value": {"env": "ACME_SECRET"}},
    {"kind": "api_key", "parameter": "api_key", "value": {"env": "ACME_SECRET"}},
    {"kind": "basic", "user": "we", "password": {"env": "ACME_SECRET"}},
    {"kind": "bearer", "token": {"env": "ACME_SECRET"}},
    {
        "kind": "oauth2_client",
        "token_url": "http://127.0.0.1:1/token",
        "client_id": "we",
        "client_secret": {"env": "ACME_SECRET"},
    },
]


@pytest.mark.parametrize("fault", [None, Fault.BROKEN, Fault.HANGS, Fault.TRUNCATED])
@pytest.mark.parametrize("credentials", CREDENTIALS, ids=[str(each["kind"]) for each in CREDENTIALS])
async def test_no_error_tells_a_secret(
    credentials: dict[str, Any], fault: Fault | None, secret: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        HttpSupplier(stock(4), Faults([fault]), key="another") as supplier,
        Feed(KIND, url=f"{supplier.origin}/stock", credentials=credentials, timeout_s=0.5) as feed,
    ):
        with pytest.raises(Retriable) as why:
            await feed.poll()
        assert SECRET not in str(why.value) + repr(why.value.__cause__) + repr(feed.source) + caplog.text
        assert why.value.__suppress_context__ or why.value.__context__ is None


async def test_a_secret_is_read_at_each_request(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old\n")
    credentials = {"kind": "api_key", "parameter": "key", "value": {"file": str(file)}}
    async with (
        HttpSupplier(stock(1), key="new") as supplier,
        Feed(KIND, url=f"{supplier.origin}/stock", credentials=credentials) as feed,
    ):
        with pytest.raises(Retriable, match="401"):
            await feed.poll()
        file.write_text("new\n")
        assert len((await feed.poll()).rows()) == 1


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("way", WAYS)
async def test_whatever_goes_wrong_a_poll_that_ends_well_has_all_rows(way: str, seed: int) -> None:
    kinds = set(Fault) - {Fault.HANGS, Fault.EXPIRED}
    faults = Faults(planned(seed, 40, 0.2, sorted(kinds)))
    async with (
        HttpSupplier(stock(9), faults) as supplier,
        Feed(KIND, url=f"{supplier.origin}/{way}", pages=WAYS[way]) as feed,
    ):
        for _ in range(42):
            try:
                polled = await feed.poll("stock")
            except (Retriable, Rejected):
                continue
            break
        assert sorted(polled.rows("stock"), key=lambda row: row["stock"]) == supplier.rows


async def test_pages_come_to_kafka_whatever_the_supplier_does(running: Running) -> None:
    faults = Faults([None, Fault.BROKEN, Fault.REORDERED, Fault.THROTTLED, None, Fault.TRUNCATED])
    async with HttpSupplier(stock(6), faults) as supplier:
        source = {"kind": "rest", "url": f"{supplier.origin}/cursor", "pages": CURSOR}
        mapping = SIMPLE | {"sku": "$.code", "quantity": "$.stock"}
        feed = {"source": source, "format": {"format": "json", "records": "$.stock[*]"}, "mapping": mapping}
        running.configure("acme", stock=feed | {"poll": {"every_s": 0.1}})
        async with running:
            await running.until(lambda: set(units(running.updates())) == {f"s{n}" for n in range(6)})
            updates = running.updates()
    assert units(updates) == {f"s{n}": n for n in range(6)}
    assert (repeats(updates), running.letters()) == (0, [])


async def test_what_the_pages_of_a_snapshot_do_not_name_any_more_is_withdrawn(running: Running) -> None:
    faults = Faults()
    async with HttpSupplier(stock(5), faults) as supplier:
        mapping = SIMPLE | {"sku": "$.code", "quantity": "$.stock"}
        feed = {
            "source": {"kind": "rest", "url": f"{supplier.origin}/number", "pages": NUMBER},
            "format": {"format": "json", "records": "$.stock[*]"},
            "mapping": mapping,
            "snapshot": {},
            "poll": {"every_s": 0.1},
        }
        running.configure("acme", stock=feed)
        async with running:
            await running.until_updates(5)
            faults.plan.extend([None, Fault.BROKEN, None, Fault.TRUNCATED])
            supplier.rows = stock(4)
            await running.until(lambda: any(each["kind"] == "WITHDRAWN" for each in running.updates()))
            updates = running.updates()
    assert {each["sku"] for each in updates if each["kind"] == "WITHDRAWN"} == {"s4"}
    assert running.letters() == []


def test_a_snapshot_of_what_but_changed_is_refused(running: Running) -> None:
    source = {"kind": "rest", "url": "http://acme.example/stock", "since": {"parameter": "since"}}
    mapping = SIMPLE | {"sku": "$.code", "quantity": "$.stock"}
    running.configure(
        "acme", stock={"source": source, "format": {"format": "json"}, "mapping": mapping, "snapshot": {}}
    )
    [fault] = load(running.folder, all_kinds()).faults
    assert fault.endswith("snapshot: what changed says nothing of what is missing; remove since")
