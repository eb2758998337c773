"""An engineer's day: a bug in the fold makes wrong rows, which are found and mended while shops read.

The fix goes in, `verify` names the first wrong SKU, `rebuild` mends all, and old tokens get a clear answer. The bug is
planted from here, by a `sitecustomize` that only worker processes act on, and only while a file is there.
"""

from __future__ import annotations

import datetime
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from schemas.keys import partition_of
from tests.system.stack import Stack

PARTITIONS = 4  # the default
SUPPLIERS = ("acme", "globex")
WAIT_S = 60.0
LIST = "/api/v1/inventory?limit=1000"

PLANT = """
import os, sys
from pathlib import Path

if sys.orig_argv[-1] == "worker" and Path(os.environ["PLANT"]).exists():
    import inventory.fold as module

    plain = module.fold

    def fold(updates, *others):
        sold = [-2 if n == -3 and kind == "DELTA" else n for n, kind in zip(updates.quantity, updates.kind)]
        return plain(updates._replace(quantity=sold), *others)

    module.fold = fold
"""
"""Sales of three are taken for sales of two."""


@dataclass(frozen=True)
class Said:
    """An update, as a supplier sends it."""

    supplier: str
    sku: str
    kind: str
    quantity: int
    id: str
    at: datetime.datetime

    def line(self) -> dict[str, object]:
        """Its JSON."""
        named: dict[str, object] = {"sku": self.sku, "kind": self.kind, "quantity": self.quantity}
        return named | {"updateId": self.id, "timestamp": self.at.isoformat()}


def morning(skus: int = 150, sales: int = 8) -> list[Said]:
    """A count of each SKU by each supplier, then sales; some are told twice."""
    rng = random.Random(4)
    began = now() - datetime.timedelta(hours=6)
    told: list[Said] = []
    for supplier in SUPPLIERS:
        told += [Said(supplier, f"sku-{i:03}", "COUNT", 100, f"count-{i}", began) for i in range(skus)]
    for n in range(sales):
        at = began + datetime.timedelta(minutes=n + 1)
        for i in rng.sample(range(skus), skus * 2 // 3):
            supplier, quantity = rng.choice(SUPPLIERS), rng.choice((-1, -1, -1, -1, -2, -2, -3, -4))
            told.append(Said(supplier, f"sku-{i:03}", "DELTA", quantity, f"sale-{n}-{i}", at))
    return told + rng.sample(told, 100)


def on_hand(told: Iterable[Said], sale_of_three: int = -3) -> dict[str, int]:
    """What the shop should see, from each update once."""
    found: dict[str, int] = {}
    for said in {(said.supplier, said.id): said for said in told}.values():
        quantity = sale_of_three if (said.kind, said.quantity) == ("DELTA", -3) else said.quantity
        found[said.sku] = found.get(said.sku, 0) + quantity
    return found


class Client:
    """One connection to the API, kept open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, str | None]:
        """Status, JSON, ETag."""
        self._connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        response = self._connection.getresponse()
        answer = response.read()
        return response.status, json.loads(answer) if answer else None, response.headers["ETag"]

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> Any:
        status, answer, _ = self.ask("GET", path)
        assert status == 200, answer
        return answer

    def push(self, told: Iterable[Said]) -> None:
        """In batches, by supplier, in order."""
        by_supplier: dict[str, list[Said]] = {}
        for said in told:
            by_supplier.setdefault(said.supplier, []).append(said)
        for supplier, lines in by_supplier.items():
            body = "\n".join(json.dumps(said.line()) for said in lines).encode()
            path = f"/api/v1/suppliers/{supplier}/inventory-batch-update"
            status, answer, _ = self.ask("POST", path, body, Content_Type="application/x-ndjson")
            assert status == 202, answer

    def push_one(self, said: Said) -> str:
        """Returns the token."""
        path, body = f"/api/v1/suppliers/{said.supplier}/inventory-update", json.dumps(said.line()).encode()
        status, answer, _ = self.ask("POST", path, body, Content_Type="application/json")
        assert status == 202, answer
        return str(answer["token"])

    def listed(self) -> dict[str, int]:
        """All SKUs with what can be sold, of one generation."""
        status, page, _ = self.ask("GET", LIST)
        found: dict[str, int] = {}
        while status == 200:
            found |= {item["sku"]: item["available_quantity"] for item in page["items"]}
            if page["next"] is None:
                return found
            status, page, _ = self.ask("GET", f"{LIST}&cursor={page['next']}")
        assert (status, page["reason"]) == (410, "cursor_of_another_generation"), page
        return self.listed()


@dataclass
class Shop:
    """Reads the list without a pause, and pushes and reads its own writes beside it; says what went wrong."""

    port: int
    wrong: dict[str, int]
    right: dict[str, int]
    seen: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sold: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def open(self) -> Iterator[None]:
        """For as long as the block runs."""
        threads = [threading.Thread(target=self._guard, args=(loop,)) for loop in (self._read, self._sell)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopping.set()
            for thread in threads:
                thread.join()

    def _guard(self, loop: Callable[[Client], None]) -> None:
        try:
            with closing(Client(self.port)) as client:
                loop(client)
        except (AssertionError, OSError, http.client.HTTPException, ValueError, KeyError) as problem:
            self.problems.append(repr(problem))

    def _read(self, client: Client) -> None:
        while not self.stopping.is_set():
            listed = client.listed()
            numbers = {sku: listed.get(sku) for sku in self.right}
            look = "wrong" if numbers == self.wrong else "right" if numbers == self.right else f"a mix: {numbers}"
            if self.seen[-1:] != [look]:
                self.seen.append(look)
            time.sleep(0.005)  # leaves a processor to the others

    def _sell(self, client: Client) -> None:
        """One unit more, one after the other; each is read at once."""
        while not self.stopping.is_set():
            said = Said("initech", "moving", "DELTA", 1, f"in-{self.sold}", now())
            token = client.push_one(said)
            self.sold += 1
            item = client.get(f"/api/v1/inventory?sku=moving&min_offset={token}")
            if item["available_quantity"] != self.sold:
                self.problems.append(f"{item['available_quantity']} instead of {self.sold} after {token}")
            time.sleep(0.01)


def engineer(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in the deployment's folder."""
    return subprocess.run(
        [sys.executable, "-m", "stockweave", *arguments, "--data-dir", str(stack.data_dir)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def await_list(client: Client, expected: dict[str, int]) -> None:
    deadline = time.monotonic() + WAIT_S
    while (listed := client.listed()) != expected:
        differ = {sku: (listed.get(sku), number) for sku, number in expected.items() if listed.get(sku) != number}
        assert time.monotonic() < deadline, f"not what was expected: {dict(list(differ.items())[:5])}"
        time.sleep(0.1)


def plant_bug(folder: Path) -> tuple[Path, dict[str, str]]:
    """The file that keeps it planted, and the environment of the deployment."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(PLANT)
    plant = folder / "planted"
    plant.touch()
    return plant, {"PYTHONPATH": str(folder), "PLANT": str(plant)}


def verify_names_the_first_wrong_sku(stack: Stack, told: list[Said], right: dict[str, int], wrong: set[str]) -> None:
    found = engineer(stack, "verify")
    assert found.returncode == 65, found.stderr
    said = found.stdout.splitlines()
    first = min(wrong, key=lambda sku: (partition(sku), sku))
    assert said[0] == f"the first SKU that differs: {first!r} in partition {partition(first)}"
    sales = [s for s in told if (s.sku, s.kind, s.quantity) == (first, "DELTA", -3)]
    sale = min(sales, key=lambda s: SUPPLIERS.index(s.supplier))  # they were pushed one after the other
    assert any(f"update_id {sale.id!r}" in line and "they part at" in line for line in said), found.stdout
    assert any(line.startswith(f"  replayed: on hand {right[first]}, ") for line in said), found.stdout
    assert said[-1].endswith(f" rows in {PARTITIONS} partitions: {len(wrong)} differ")


def rebuild_mends_all(stack: Stack, wrong: set[str]) -> None:
    would = engineer(stack, "rebuild", "--dry-run")
    assert would.returncode == 0, would.stderr
    assert would.stdout.splitlines()[-1].startswith(f"dry run: {len(wrong)} of ")
    mended = engineer(stack, "rebuild", "--api-port", str(stack.api_port))
    assert mended.returncode == 0, mended.stderr
    assert "generation 1 is live" in mended.stdout
    assert "workers: they go on in it" in mended.stdout
    assert f"api: {stack.url} answers from it" in mended.stdout
    checked = engineer(stack, "verify")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.splitlines()[-1].endswith(f" rows in {PARTITIONS} partitions: 0 differ")


@pytest.mark.timeout(300)
def test_a_bug_that_made_wrong_rows_is_found_and_mended_while_shops_read(tmp_path: Path) -> None:
    told = morning()
    right, made = on_hand(told), on_hand(told, sale_of_three=-2)
    wrong = {sku for sku in right if right[sku] != made[sku]}
    plant, environment = plant_bug(tmp_path / "site")
    with Stack(tmp_path / "data", workers=2, **environment) as stack, closing(Client(stack.api_port)) as client:
        client.push(told)
        await_list(client, made)
        _, page, _ = client.ask("GET", "/api/v1/inventory?limit=10")
        _, _, old_tag = client.ask("GET", "/api/v1/inventory?sku=sku-000")

        plant.unlink()  # the fix goes in
        for worker in ("worker-0", "worker-1"):
            stack.kill(worker)
        client.push([Said("acme", f"new-{n}", "COUNT", n, f"new-{n}", now()) for n in range(1, 9)])
        since = {f"new-{n}": n for n in range(1, 9)}
        assert {partition(sku) for sku in since} == set(range(PARTITIONS))
        await_list(client, made | since)  # all partitions are served again, and rightly from here on

        shop = Shop(stack.api_port, made, right)
        with shop.open():
            verify_names_the_first_wrong_sku(stack, told, right, wrong)
            rebuild_mends_all(stack, wrong)
        assert shop.problems == []
        assert shop.seen == ["wrong", "right"]
        assert shop.sold > 50

        status, problem, _ = client.ask("GET", f"/api/v1/inventory?limit=10&cursor={page['next']}")
        assert (status, problem["reason"]) == (410, "cursor_of_another_generation")
        assert "begin again without a cursor" in problem["detail"]
        status, item, _ = client.ask("GET", "/api/v1/inventory?sku=sku-000", If_None_Match=old_tag or "")
        assert (status, item["available_quantity"]) == (200, right["sku-000"])
        since["moving"] = shop.sold
        assert client.listed() == right | since

        back = engineer(stack, "rebuild", "--back", "--api-port", str(stack.api_port))
        assert back.returncode == 0, back.stderr
        await_list(client, made | since)
    assert stack.process.returncode == 0


def partition(sku: str) -> int:
    return partition_of(sku.encode(), PARTITIONS)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
