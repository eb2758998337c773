"""The commands on dead letters, against a real Kafka: what is shown, sent again, and shown no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.connectors.files.test_folder import write
from tests.connectors.running import SIMPLE, Running, csv_feed, units
from tests.deployment import Deployment
from tests.inventory.builders import update
from tests.inventory.reference import Event

AT_MS = 1_790_000_000_000


class Dlq:
    """The command, for one deployment."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stockweave", "dlq", *arguments]
        environment = self.running.deployment.environment("command")
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def listed(self, *filters: str) -> list[dict[str, Any]]:
        done = self("list", "--json", *filters)
        assert done.returncode == 0, done.stderr
        return [orjson.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def running(broker: EmbeddedKafka, tmp_path: Path) -> Running:
    return Running(Deployment(broker.bootstrap_servers, tmp_path / "data", partitions=2), tmp_path / "suppliers")


@pytest.fixture
def dlq(running: Running) -> Dlq:
    return Dlq(running)


async def refused(running: Running, tmp_path: Path, text: str, letters: int, **feed: Any) -> None:
    """A feed that could not use some of its rows."""
    write(tmp_path / "in" / "a.csv", text, changed_ms=AT_MS)
    running.configure("acme", stock=csv_feed(tmp_path / "in", **feed))
    async with running:
        await running.until(lambda: len(running.letters()) >= letters)


async def test_a_row_that_was_refused_counts_once_after_its_mapping_was_mended(
    running: Running, dlq: Dlq, tmp_path: Path
) -> None:
    await refused(running, tmp_path, "code,stock\ns1,5\ns2,many\ns3,some\ns4,1\n", 2)
    many, some = dlq.listed("--feed", "acme/stock")
    assert (many["original"], many["reason"], many["stage"]) == ("s2,many", "not_a_number", "connector")
    left = dlq("retry", "--suppliers", str(running.folder))
    assert (left.returncode, left.stdout.splitlines()[-1]) == (os.EX_DATAERR, "0 retried, 2 left")
    assert "there is no such letter" in dlq("retry", "99-99").stderr
    mended = SIMPLE | {"version": 2, "quantity": {"path": "stock", "values": {"many": 100}}}
    running.configure("acme", stock=csv_feed(tmp_path / "in", mapping=mended))
    for _ in range(2):
        done = dlq("retry", many["id"], some["id"], "--suppliers", str(running.folder))
        assert done.returncode == os.EX_DATAERR, done.stderr  # some is of no use still
    assert [letter["id"] for letter in dlq.listed()] == [some["id"]]
    updates = running.updates()
    assert units(updates) == {"s1": 5, "s2": 100, "s4": 1}
    [again] = [update for update in updates if update["sku"] == "s2"]
    [other] = [update for update in updates if update["sku"] == "s1"]
    assert (again["observed_at"], again["feed"]) == (AT_MS, "acme/stock@2")
    assert again["update_id"] == other["update_id"][:-10] + "0000000001", "as it would have been"


@pytest.mark.parametrize(
    ("form", "text", "original"),
    [
        ({"format": "csv", "delimiter": ";"}, "code;stock\ns1;many\n", "s1;many"),
        ({"format": "csv", "header": False, "columns": ["code", "stock"]}, "s1,many\n", "s1,many"),
        ({"format": "json", "records": "$.items[*]"}, '{"items": [{"code": "s1", "stock": "many"}]}', None),
        ({"format": "ndjson"}, '{"code": "s1", "stock": "many"}\n', None),
        ({"format": "xml", "row": "item"}, "<all><item><code>s1</code><stock>many</stock></item></all>", None),
    ],
)
async def test_a_row_of_any_format_can_be_read_by_itself_again(
    running: Running, dlq: Dlq, tmp_path: Path, form: dict[str, Any], text: str, original: str | None
) -> None:
    await refused(running, tmp_path, text, 1, format=form)
    [letter] = dlq.listed()
    assert original in (None, letter["original"])
    mended = SIMPLE | {"version": 2, "quantity": {"path": "stock", "values": {"many": 7}}}
    running.configure("acme", stock=csv_feed(tmp_path / "in", mapping=mended, format=form))
    assert dlq("retry", letter["id"], "--suppliers", str(running.folder)).stdout == "1 retried, 0 left\n"
    assert units(running.updates()) == {"s1": 7}


def test_a_message_that_a_worker_refused_is_sent_as_it_was(running: Running, dlq: Dlq) -> None:
    running.deployment.publish_raw(b"sku-1", b"\x00nonsense")
    worked(running)
    [letter] = dlq.listed("--key", "sku-1")
    assert dlq("retry", letter["id"]).stdout == "1 retried, 0 left\n"
    assert running.deployment.end_of_updates() == 2
    assert dlq.listed() == []


def test_what_a_worker_refused_is_found_by_the_feed_that_brought_it(running: Running, dlq: Dlq) -> None:
    of_a_feed = update(Event("COUNT", "u1", 1_790_000_000_000, 5), feed="acme/stock@3")
    running.deployment.publish_raw(b"another", running.deployment.codec.encode(cast("dict[str, object]", of_a_feed)))
    worked(running)
    [letter] = dlq.listed("--feed", "acme/stock")
    assert (letter["feed"], letter["reason"], letter["stage"]) == ("acme/stock", "key_is_not_sku", "FOLD")
    assert dlq.listed("--feed", "acme/other") == []


def worked(running: Running) -> None:
    """A worker has refused something."""
    deployment = running.deployment
    engine, identity = deployment.engine("worker")
    while not deployment.dead_letters():
        batch = engine.processor.poll()
        if batch is not None:
            engine.processor.commit(batch, engine.folder.fold(batch))
        else:
            engine.processor.restore(True)
    engine.processor.close()
    identity.release()


async def test_what_is_dropped_is_shown_no_more_and_only_what_was_named(
    running: Running, dlq: Dlq, tmp_path: Path
) -> None:
    await refused(running, tmp_path, "code,stock\ns1,many\n,3\ns3\n", 3)
    assert dlq("drop").returncode == os.EX_DATAERR
    assert dlq("drop", "--reason", "not_a_number").stdout == "1 dropped\n"
    assert sorted(letter["reason"] for letter in dlq.listed()) == ["malformed_row", "missing"]
    [first, *_] = dlq.listed()
    assert first["original"] in dlq("show", first["id"]).stdout
    assert json.loads(dlq("show", first["id"], "--json").stdout) == first
    assert dlq("drop", first["id"]).stdout == "1 dropped\n"
    assert "there is no letter" in dlq("show", first["id"]).stderr
    assert len(dlq.listed()) == 1
