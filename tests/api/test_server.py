"""The API's process: it ends cleanly when told to, with the reason when it must, and outlives a Kafka that is away."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web

from api.server import serve
from api.view import View
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal
from stockweave.ports import free_port
from tests.api.stock import WAIT_S, Stock, row
from tests.api.test_view import delete_stock

BrokerFactory = Callable[[], EmbeddedKafka]


class Process:
    """`stockweave api` over a deployment's data folder."""

    def __init__(self, stock: Stock, port: int | None = None) -> None:
        self.port = port or free_port()
        self.errors = stock.settings.data_dir / "errors.txt"
        environment = os.environ | {
            "STOCKWEAVE_BOOTSTRAP_SERVERS": stock.bootstrap_servers,
            "STOCKWEAVE_TOPIC_PREFIX": stock.settings.topic_prefix,
            "STOCKWEAVE_PARTITIONS": str(stock.settings.partitions),
            "STOCKWEAVE_DATA_DIR": str(stock.settings.data_dir),
            "STOCKWEAVE_API_PORT": str(self.port),
        }
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen([sys.executable, "-m", "stockweave", "api"], env=environment, stderr=errors)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON; status 0 while nothing listens."""
        return self._answer(urllib.request.Request(self._address(path)))

    def post(self, path: str, body: object) -> tuple[int, Any]:
        """As `get`."""
        media = {"Content-Type": "application/json"}
        return self._answer(urllib.request.Request(self._address(path), json.dumps(body).encode(), media))

    def _address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @staticmethod
    def _answer(request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except (urllib.error.URLError, ConnectionError):
            return 0, None

    def await_status(self, path: str, status: int) -> Any:
        deadline = time.monotonic() + WAIT_S
        while True:
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, self.errors.read_text()
            got, body = self.get(path)
            if got == status:
                return body
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Exit code and the last line on stderr, once it has ended."""
        code = self.process.wait(WAIT_S)
        return code, self.errors.read_text().splitlines()[-1]


@contextmanager
def running(stock: Stock, port: int | None = None) -> Iterator[Process]:
    process = Process(stock, port)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


def test_told_to_stop_it_answers_the_request_under_way_and_ends_with_0(stock: Stock) -> None:
    stock.write(row("milk", acme=3))
    with running(stock) as api:
        api.await_status("/readyz", 200)
        token = stock.begin([row("milk", version=2, acme=4)])
        with socket.create_connection(("127.0.0.1", api.port)) as connection:
            connection.sendall(
                f"GET /api/v1/inventory?sku=milk&min_offset={token} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            time.sleep(0.3)
            api.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            stock.end()
            connection.settimeout(WAIT_S)
            answer = connection.recv(65_536)
        assert b'"available_quantity":4' in answer
        assert api.end()[0] == 0
    with running(stock) as again:  # from its stores
        assert again.await_status("/api/v1/inventory?sku=milk", 200)["available_quantity"] == 4


def test_a_port_in_use_is_fatal_and_says_which_and_what_to_do(stock: Stock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, running(stock, taken.getsockname()[1]) as api:
        code, line = api.end()
    assert code == os.EX_CONFIG
    assert f"port {api.port} on 127.0.0.1 is in use" in line
    assert "--api-port" in line


def test_a_folder_that_another_process_uses_is_fatal_and_says_which(stock: Stock) -> None:
    with running(stock) as first:
        first.await_status("/readyz", 200)
        with running(stock) as second:
            code, line = second.end()
        assert code == os.EX_CONFIG
        assert str(stock.settings.data_dir / "view") in line
        assert "--data-dir" in line


async def test_a_view_that_can_no_longer_follow_ends_the_process_with_the_reason(stock: Stock) -> None:
    with running(stock) as api:
        api.await_status("/readyz", 200)
        await delete_stock(stock)
        code, line = api.end()
    assert code == os.EX_CONFIG
    assert "is gone" in line
    assert "restart" in line


class FullDisk:
    """A view whose disk is full: following ends, and closing fails as well."""

    async def run(self) -> None:
        raise Fatal("the disk is full; free some of it")

    def stop(self) -> None:
        pass

    def close(self) -> None:
        raise Fatal("the last rows cannot be written")


async def test_a_view_that_ends_and_cannot_be_closed_either_tells_the_first_reason_and_leaves_none_unheard() -> None:
    unheard: list[dict[str, Any]] = []
    loop, interval_s = asyncio.get_running_loop(), sys.getswitchinterval()
    loop.set_exception_handler(lambda _, context: unheard.append(context))
    try:
        with pytest.raises(Fatal, match="the disk is full; free some of it"):
            await serve(web.Application(), cast("View", FullDisk()), "127.0.0.1", 0)
        gc.collect()
        assert unheard == []
    finally:
        loop.set_exception_handler(None)
        sys.setswitchinterval(interval_s)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def test_without_kafka_it_goes_on_serving_and_says_since_when_and_catches_up(
    broker_factory: BrokerFactory, tmp_path: Path
) -> None:
    kafka = broker_factory().start()
    stock = Stock(kafka.bootstrap_servers, tmp_path)
    stock.write(row("milk", acme=3))
    with running(stock) as api:
        api.await_status("/readyz", 200)
        kafka.kill()
        first = api.get("/api/v1/inventory?sku=milk")
        time.sleep(3)
        status, item = api.get("/api/v1/inventory?sku=milk")
        assert (first[0], status, item["available_quantity"]) == (200, 200, 3)
        away_since = item["freshness"]["confirmed_at"]
        status, problem = api.post("/api/v1/inventory/reserve", {"sku": "milk", "quantity": 1, "orderId": "o"})
        assert (status, "same Idempotency-Key" in problem["detail"]) == (503, True)
        assert api.get("/readyz")[0] == 200
        time.sleep(1.2)
        assert api.get("/api/v1/inventory?sku=milk")[1]["freshness"]["confirmed_at"] == away_since
        kafka.start()
        token = stock.write(row("milk", version=2, acme=4))
        caught_up = api.await_status(f"/api/v1/inventory?sku=milk&min_offset={token}", 200)
        assert caught_up["available_quantity"] == 4
        deadline = time.monotonic() + WAIT_S
        while api.get("/api/v1/inventory?sku=milk")[1]["freshness"]["confirmed_at"] <= away_since:
            assert time.monotonic() < deadline, api.errors.read_text()
            time.sleep(0.1)
        assert api.process.poll() is None


def test_a_kafka_that_stands_still_is_not_said_to_have_confirmed_anything(
    broker_factory: BrokerFactory, tmp_path: Path
) -> None:
    """For such a broker librdkafka gives an offset of -1001, and no error."""
    kafka = broker_factory().start()
    stock = Stock(kafka.bootstrap_servers, tmp_path)
    with running(stock) as api:
        api.await_status("/readyz", 200)
        assert kafka.pid is not None
        os.kill(kafka.pid, signal.SIGSTOP)
        stopped_at = time.time()
        try:
            time.sleep(9)  # longer than several questions take to go unanswered
            _, said = api.get("/readyz")
        finally:
            os.kill(kafka.pid, signal.SIGCONT)
        confirmed_at = datetime.fromisoformat(said["confirmed_at"].replace("Z", "+00:00")).timestamp()
        assert confirmed_at < stopped_at + 1
        assert all(partition["end"] >= 0 for partition in said["partitions"])


def test_killed_at_any_time_it_comes_back_with_all_that_is_committed(stock: Stock) -> None:
    with running(stock) as api:
        api.await_status("/readyz", 200)
        for i in range(40):
            stock.write(*(row(f"sku-{n}", version=i + 1, acme=i) for n in range(30)))
        api.process.kill()
        api.process.wait()
        stock.write(row("sku-0", version=50, acme=77))
    with running(stock) as api:
        api.await_status("/readyz", 200)
        items = api.get("/api/v1/inventory?limit=100")[1]["items"]
    assert {item["sku"]: item["available_quantity"] for item in items} == {f"sku-{n}": 39 for n in range(30)} | {
        "sku-0": 77
    }


def test_a_damaged_store_ends_the_process_with_the_reason_and_the_restart_reads_it_anew(stock: Stock) -> None:
    skus = [f"sku-{n:04}" for n in range(600)]
    with running(stock) as api:
        stock.write(*(row(sku, acme=n) for n, sku in enumerate(skus)))
        api.await_status("/readyz", 200)
        api.process.send_signal(signal.SIGTERM)
        assert api.end()[0] == 0
    [file] = (stock.settings.data_dir / "view" / stock.generation / "0").glob("*.sst")
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(b"\xff" * 64)
    with running(stock) as api:
        api.await_status("/readyz", 200)
        of_partition = [sku for sku in skus if stock.partition(sku) == 0]
        for sku in of_partition:
            with suppress(ValueError, OSError):  # of the 500, and of the end
                if api.get(f"/api/v1/inventory?sku={sku}")[0] != 200:
                    break
        code, line = api.end()
    assert code == os.EX_CONFIG
    assert f"{file.parent} is damaged: Corruption" in line
    with running(stock) as api:
        api.await_status("/readyz", 200)
        quantities = [api.get(f"/api/v1/inventory?sku={sku}")[1]["available_quantity"] for sku in of_partition]
    assert quantities == [skus.index(sku) for sku in of_partition]


def test_the_whole_process_describes_what_every_part_answers(stock: Stock) -> None:
    with running(stock) as api:
        api.await_status("/readyz", 200)
        paths = api.get("/openapi.json")[1]["paths"]
        with urllib.request.urlopen(f"http://127.0.0.1:{api.port}/docs", timeout=WAIT_S) as answer:
            page = answer.read().decode()
        with urllib.request.urlopen(f"http://127.0.0.1:{api.port}/metrics", timeout=WAIT_S) as answer:
            assert b"stockweave_view_lag_records" in answer.read()
    push = "/api/v1/suppliers/{supplierId}/inventory-update"
    assert {push, "/api/v1/inventory", "/healthz"} <= set(paths)
    assert f"http://127.0.0.1:{api.port}{push}" in page


def test_what_is_pushed_is_in_kafka_when_it_is_answered(stock: Stock) -> None:
    update = {"sku": "milk", "quantity": 5, "timestamp": "2026-11-20T10:00:00Z", "updateId": "u1"}
    with running(stock) as api:
        api.await_status("/readyz", 200)
        request = urllib.request.Request(
            f"http://127.0.0.1:{api.port}/api/v1/suppliers/acme/inventory-update",
            json.dumps(update).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            assert answer.status == 202
            receipt = json.load(answer)
    assert receipt == {
        "topic": stock.topics["inventory.updates"].name,
        "partition": stock.partition("milk"),
        "offset": 0,
        "token": f"{stock.partition('milk')}-0",
    }
