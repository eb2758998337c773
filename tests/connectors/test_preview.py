"""Feeds that are looked at without Kafka, by the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.connectors.running import csv_feed


def stockweave(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("STOCKWEAVE_")}
    return subprocess.run(
        [sys.executable, "-m", "stockweave", "connectors", *arguments], capture_output=True, text=True, env=env
    )


@pytest.fixture
def suppliers(tmp_path: Path) -> Path:
    folder = tmp_path / "suppliers"
    folder.mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("code,stock\ns1,5\ns2,many\ns3,7\n")
    (folder / "acme.yaml").write_text(json.dumps({"supplier": "acme", "feeds": {"stock": csv_feed(tmp_path / "in")}}))
    return folder


def test_check_names_the_feeds_that_are_well_and_every_fault(suppliers: Path) -> None:
    well = stockweave("check", str(suppliers))
    assert (well.returncode, well.stdout) == (0, "acme/stock: folder, csv: well\n")
    (suppliers / "best.yaml").write_text("supplier: best\n")
    broken = stockweave("check", str(suppliers))
    assert (broken.returncode, broken.stdout) == (os.EX_DATAERR, "acme/stock: folder, csv: well\n")
    assert f"{suppliers / 'best.yaml'}:1: feeds: is missing; add it" in broken.stderr


def test_a_feed_with_a_map_of_skus_is_tried_without_it(suppliers: Path, tmp_path: Path) -> None:
    feed = csv_feed(tmp_path / "in")
    mapping = feed["mapping"] | {"sku_map": {"unknown": "reject"}}
    (suppliers / "acme.yaml").write_text(
        json.dumps({"supplier": "acme", "feeds": {"stock": feed | {"mapping": mapping}}})
    )
    tried = stockweave("try", str(suppliers), "acme/stock", "--json")
    assert "the map of SKUs is in Kafka, and is not read here" in tried.stderr
    assert [orjson.loads(line).get("sku") for line in tried.stdout.splitlines()] == ["s1", "s3", None]


def test_check_names_the_secrets_that_are_not_here(suppliers: Path, tmp_path: Path) -> None:
    key = {"kind": "api_key", "header": "X-Key", "value": {"env": "ACME_TEST_KEY_THAT_NOBODY_SETS"}}
    feed = csv_feed(tmp_path / "in") | {"source": {"kind": "rest", "url": "http://127.0.0.1/", "credentials": key}}
    (suppliers / "acme.yaml").write_text(json.dumps({"supplier": "acme", "feeds": {"stock": feed}}))
    checked = stockweave("check", str(suppliers))
    said = (
        "acme/stock: rest, csv: well; the environment has no ACME_TEST_KEY_THAT_NOBODY_SETS; set it, and start again\n"
    )
    assert (checked.returncode, checked.stdout) == (0, said)


def test_try_prints_what_the_first_rows_come_to_and_changes_nothing(suppliers: Path) -> None:
    tried = stockweave("try", str(suppliers), "acme/stock", "--json")
    assert tried.returncode == 0, tried.stderr
    first, second, wrong = map(orjson.loads, tried.stdout.splitlines())
    assert [(each["sku"], each["quantity"]) for each in (first, second)] == [("s1", 5), ("s3", 7)]
    assert (wrong["row"], wrong["original"]) == (1, "s2,many")
    assert wrong["why"].startswith("quantity: 'many' is not a number")
    assert "s3" in stockweave("try", str(suppliers), "acme/stock").stdout
    assert len(stockweave("try", str(suppliers), "acme/stock", "--rows", "1", "--json").stdout.splitlines()) == 2


def test_try_says_which_document_is_of_no_use_or_has_no_rows(suppliers: Path, tmp_path: Path) -> None:
    file = tmp_path / "in" / "a.csv"
    file.write_text("code;stock\ns1;5\n")
    tried = stockweave("try", str(suppliers), "acme/stock")
    assert tried.returncode == os.EX_DATAERR
    assert "-a.csv-" in tried.stderr
    assert "mend the mapping, or delimiter" in tried.stderr
    file.write_text("code,stock\n")
    assert "-a.csv-11 has no rows; if something is offered in it, mend format" in " ".join(
        stockweave("try", str(suppliers), "acme/stock").stdout.split()
    )
    file.unlink()
    assert "there is nothing to read" in stockweave("try", str(suppliers), "acme/stock").stdout


def test_try_moves_and_deletes_nothing(suppliers: Path, tmp_path: Path) -> None:
    for then in ("move", "delete"):
        feed = csv_feed(tmp_path / "in", source={"then": then})
        (suppliers / "acme.yaml").write_text(json.dumps({"supplier": "acme", "feeds": {"stock": feed}}))
        assert stockweave("try", str(suppliers), "acme/stock").returncode == 0
        assert [file.name for file in (tmp_path / "in").iterdir()] == ["a.csv"]


def test_a_feed_that_is_not_there_is_told_with_those_that_are(suppliers: Path) -> None:
    tried = stockweave("try", str(suppliers), "acme/sales")
    assert tried.returncode == os.EX_DATAERR
    assert f"there is no feed acme/sales in {suppliers}; there are acme/stock" in tried.stderr
