"""Suppliers to try with: what the command starts can be read by the file that it writes, while it fails and changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from connectors.testing.simulate import FILE_KINDS, STARTS, Stock


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stockweave", "connectors", *arguments]


@contextmanager
def simulated(kind: str, folder: Path, *arguments: str) -> Iterator[None]:
    started = command("simulate", kind, "--folder", str(folder), *arguments)
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert "runs until" in server.stdout.readline()
            yield
        finally:
            server.send_signal(signal.SIGINT)
            assert server.wait(20) == 0


def tried(folder: Path, feed: str) -> list[tuple[str, int]]:
    done = subprocess.run(
        command("try", str(folder), feed, "--rows", "200", "--json"), capture_output=True, text=True, check=True
    )
    return [(each["sku"], each["quantity"]) for each in map(orjson.loads, done.stdout.splitlines())]


@pytest.mark.parametrize("kind", STARTS)
def test_a_supplier_of_each_kind_is_read_whole_by_the_file_that_is_written(kind: str, tmp_path: Path) -> None:
    with simulated(kind, tmp_path / "trial", "--offers", "120", "--seed", "3", "--every", "3600"):
        rows = Stock(120, tmp_path, 0.0, 3).rows
        assert tried(tmp_path / "trial", f"acme-{kind}/stock") == [(row["code"], row["stock"]) for row in rows]
        files = list((tmp_path / "trial" / f"{kind}-server" / "out").iterdir())
        assert len(files) == (1 if kind in FILE_KINDS else 0), "where nobody reads files there are none"


def test_a_kind_that_cannot_be_simulated_is_told_with_those_that_can(tmp_path: Path) -> None:
    done = subprocess.run(command("simulate", "fax", "--folder", str(tmp_path)), capture_output=True, text=True)
    assert done.returncode == os.EX_DATAERR
    assert "kind fax cannot be simulated; these can: rest, graphql" in done.stderr


def test_the_stock_changes_and_a_file_of_all_of_it_is_there_each_time(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    stock = Stock(50, tmp_path, 0.0, 1)
    stock.write()
    before = [dict(row) for row in stock.rows]
    stock.change()
    assert [row["code"] for row in stock.rows] == [row["code"] for row in before]
    assert 0 < sum(row != was for row, was in zip(stock.rows, before, strict=True)) <= 5
    first, second = sorted((tmp_path / "out").glob("*.csv"))
    for file, rows in ((first, before), (second, stock.rows)):
        assert file.read_text().splitlines()[1:] == [f"{row['code']};{row['stock']}" for row in rows]


def test_what_goes_wrong_is_drawn_for_as_long_as_it_runs(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    stock = Stock(5, tmp_path, 0.5, 1)
    for _ in range(20):
        planned = [stock.faults.plan.popleft() for _ in range(20)]
        assert any(planned)
        assert not all(planned)
        stock.change()
