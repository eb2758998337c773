"""The commands on the map of SKUs, against a real Kafka: what is taken in, shown, changed, and told of faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from schemas.topics import SKU_MAP
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.skus import table
from stockweave.skus.command import import_file
from tests.connectors.files.test_folder import write
from tests.connectors.running import SIMPLE, Running, csv_feed, repeats, units
from tests.deployment import Deployment

AT_MS = 1_790_000_000_000


class Command:
    """`stockweave`, for one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stockweave", *arguments]
        environment = self.deployment.environment("command")
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def exported(self) -> list[str]:
        done = self("skus", "export")
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[1:]


@pytest.fixture
def running(broker: EmbeddedKafka, tmp_path: Path) -> Running:
    return Running(Deployment(broker.bootstrap_servers, tmp_path / "data", partitions=2), tmp_path / "suppliers")


@pytest.fixture
def run(running: Running) -> Command:
    return Command(running.deployment)


def test_a_file_is_taken_in_and_told_by_what_it_changes(run: Command, tmp_path: Path) -> None:
    file = tmp_path / "map.csv"
    file.write_text("\ufeffsku,note,supplier_sku,supplier_id\nA-1,,x1,acme\nA-1,,x2,acme\n\nB-1,, x1 ,rival\n", "utf-8")
    done = run("skus", "import", str(file))
    assert done.stdout.splitlines()[0] == "3 new, 0 changed, 0 removed, 0 as before", done.stderr
    assert "1 of our SKUs have several" in done.stdout
    assert run.exported() == ["acme,x1,A-1", "acme,x2,A-1", "rival,x1,B-1"]
    file.write_text("supplier_sku;sku\nx1;A-9\nx3;A-3\n")
    done = run("skus", "import", str(file), "--supplier", "acme", "--delimiter", ";", "--replace", "--json")
    told = orjson.loads(done.stdout)
    assert {name: told[name] for name in ("new", "changed", "removed", "same")} == {
        "new": 1, "changed": 1, "removed": 1, "same": 0,
    }  # fmt: skip
    assert [(each["supplier_sku"], each["before"], each["sku"]) for each in told["entries"]] == [
        ("x1", "A-1", "A-9"),
        ("x2", "A-1", None),
    ]
    assert run.exported() == ["acme,x1,A-9", "acme,x3,A-3", "rival,x1,B-1"]
    listed = run("skus", "list", "--supplier", "acme", "--sku", "A-3", "--json").stdout
    assert orjson.loads(listed) == {"supplier_id": "acme", "supplier_sku": "x3", "sku": "A-3"}


def test_a_file_with_faults_changes_nothing_and_each_is_told_with_its_line(run: Command, tmp_path: Path) -> None:
    file = tmp_path / "map.csv"
    file.write_text("supplier_id,supplier_sku,sku\nacme,x1,A-1\nacme,,A-2\nacme,x3\nacme,x1,A-7\nacme,x4,A\u0001\n")
    done = run("skus", "import", str(file))
    assert done.returncode == os.EX_DATAERR
    lines = done.stderr.splitlines()
    assert lines[0].endswith("4 rows have to be mended, nothing was written:")
    assert [line.split(":")[1] for line in lines[1:]] == ["3", "4", "5", "6"]
    assert "supplier_sku is empty" in lines[1]
    assert run.exported() == []
    file.write_text("supplier_sku,sku\nx1,A-1\n")
    assert "or give --supplier" in run("skus", "import", str(file)).stderr


def test_one_entry_is_set_and_taken_back(run: Command) -> None:
    assert "1 new" in run("skus", "set", "acme", "x1", "A-1").stdout
    assert "acme x1: A-1 -> A-2" in run("skus", "set", "acme", "x1", "A-2").stdout
    assert "1 as before" in run("skus", "set", "acme", "x1", "A-2").stdout
    assert run.exported() == ["acme,x1,A-2"]
    assert "1 removed" in run("skus", "remove", "acme", "x1").stdout
    assert run.exported() == []
    again = run("skus", "remove", "acme", "x1")
    assert (again.returncode, "is not in the map" in again.stderr) == (os.EX_DATAERR, True)
    assert run("skus", "set", "acme", "x1", "").returncode == os.EX_DATAERR


def test_a_large_file_is_taken_in_whole_by_several_transactions(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "AT_ONCE", 60_000)  # and each is more than a broker takes at once by itself
    skus = {
        f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}": f"A-{n * 0xC2B2AE3D27D4EB4F % 2**64:016x}" for n in range(150_000)
    }
    file = tmp_path / "map.csv"
    file.write_text("supplier_sku,sku\n" + "".join(f"{theirs},{ours}\n" for theirs, ours in skus.items()))
    settings = run.deployment.base
    import_file(settings, file, "acme", ",", replace=False, json=False)
    known = table.known_of(run.deployment.topics[SKU_MAP.name], settings.bootstrap_servers or "")
    assert known == {"acme": skus}


async def test_a_parked_row_counts_once_after_its_sku_came_to_be_known(
    running: Running, run: Command, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.csv", "code,stock\nx1,5\nx2,7\n", changed_ms=AT_MS)
    feed = csv_feed(tmp_path / "in", mapping=SIMPLE | {"sku_map": {"unknown": "park"}})
    running.configure("acme", stock=feed)
    async with running:
        await running.until(lambda: len(running.letters()) == 2)
    retry = ("dlq", "retry", "--reason", "parked_sku", "--suppliers", str(running.folder))
    assert run(*retry).stdout.splitlines()[-1] == "0 retried, 2 left"
    run("skus", "set", "acme", "x2", "A-2")
    assert run(*retry).stdout.splitlines()[-1] == "1 retried, 1 left"
    run("skus", "set", "acme", "x1", "A-1")
    write(tmp_path / "in" / "a.csv", "code,stock\nx1,5\nx2,7\n", changed_ms=AT_MS)
    assert run(*retry).stdout == "1 retried, 0 left\n"
    updates = running.updates()
    assert units(updates) == {"A-1": 5, "A-2": 7}
    assert repeats(updates) == 0
    assert {update["update_id"][-10:] for update in updates} == {"0000000000", "0000000001"}
    assert {update["observed_at"] for update in updates} == {AT_MS}
