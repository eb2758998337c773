"""`stockweave up` as a process: its own broker or a named cluster, its children, its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from schemas.admin import ensure_topics
from stockweave.broker.kafka import EmbeddedKafka, kafka_answers
from stockweave.ports import free_port, is_free
from stockweave.settings import Settings

ROOT = Path(__file__).parents[2]


class Up:
    """A running `stockweave up`."""

    def __init__(self, data_dir: Path, out: Path, *arguments: str, **environment: str) -> None:
        self.out = out
        env = {name: value for name, value in os.environ.items() if not name.startswith("STOCKWEAVE_")}
        command = ["up", "--data-dir", str(data_dir), "--api-port", str(free_port()), *arguments]
        with out.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stockweave", *command],
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=env | environment,
            )

    def printed(self) -> str:
        return self.out.read_text()

    def until(self, condition: Callable[[], bool], timeout_s: float = 40) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(0.05)

    def starts(self, name: str) -> int:
        return sum(line.startswith(name) and "starting (pid" in line for line in self.printed().splitlines())

    def pid(self, name: str) -> int:
        lines = [line for line in self.printed().splitlines() if line.startswith(name) and "starting (pid " in line]
        return int(lines[-1].split("(pid ")[1].rstrip(")"))


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    runs: list[Up] = []

    def start(*arguments: str, **environment: str) -> Up:
        out = tmp_path / f"up-{len(runs)}.out"
        runs.append(Up(tmp_path / "data", out, *arguments, **environment))
        return runs[-1]

    yield start
    for one in runs:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


def _all_gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(p) and psutil.Process(p).status() != psutil.STATUS_ZOMBIE for p in pids)


def test_with_a_kafka_named_it_starts_none_and_needs_no_java(
    up: Callable[..., Up], broker: EmbeddedKafka, tmp_path: Path
) -> None:
    settings = {"STOCKWEAVE_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "STOCKWEAVE_TOPIC_PREFIX": "up-named."}
    one = up("--workers", "2", PATH="", JAVA_HOME=str(tmp_path / "none"), **settings)
    one.until(lambda: one.starts("worker-0") > 0 and one.starts("worker-1") > 0 and one.starts("api") > 0)
    assert one.starts("broker") == 0
    assert not (tmp_path / "data" / "broker").exists()

    def programs() -> list[str]:  # empty between a child's fork and its exec
        return [" ".join(child.cmdline()[:1]) for child in psutil.Process(one.process.pid).children()]

    one.until(lambda: len(programs()) >= 3 and all(programs()))
    assert not any("java" in program for program in programs())
    one.process.terminate()
    assert one.process.wait(60) == 0


def test_feeds_of_a_folder_are_run_beside_the_rest(
    up: Callable[..., Up], broker: EmbeddedKafka, tmp_path: Path
) -> None:
    for name, text in (
        ("in/a.csv", "code,stock\ntea,5\n"),
        (
            "suppliers/acme.yaml",
            (
                "supplier: acme\nfeeds:\n  stock:\n    format: {format: csv}\n"
                f"    source: {{kind: folder, path: {tmp_path / 'in'}, settle_s: 0}}\n"
                "    mapping: {version: 1, sku: code, quantity: stock}\n"
            ),
        ),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    port = free_port()
    settings = {"STOCKWEAVE_BOOTSTRAP_SERVERS": broker.bootstrap_servers, "STOCKWEAVE_TOPIC_PREFIX": "up-feeds."}
    one = up("--api-port", str(port), STOCKWEAVE_SUPPLIERS=str(tmp_path / "suppliers"), **settings)

    def told() -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{port}/api/v1/inventory?sku=tea") as answer:
                return b'"available_quantity":5' in answer.read()
        except OSError:
            return False

    one.until(told)
    one.process.terminate()
    assert one.process.wait(60) == 0


def test_each_worker_serves_its_metrics_on_a_port_of_its_own(up: Callable[..., Up], broker: EmbeddedKafka) -> None:
    port = free_port()
    while not is_free(port + 1):
        port = free_port()
    one = up(
        "--workers",
        "2",
        STOCKWEAVE_BOOTSTRAP_SERVERS=broker.bootstrap_servers,
        STOCKWEAVE_TOPIC_PREFIX="up-metrics.",
        STOCKWEAVE_METRICS_PORT=str(port),
    )

    def served() -> bool:
        try:
            return all(
                b"stockweave_batch_events" in urlopen(f"http://127.0.0.1:{port + i}/metrics").read() for i in (0, 1)
            )
        except OSError:
            return False

    one.until(served)
    assert (one.starts("worker-0"), one.starts("worker-1")) == (1, 1)
    one.process.terminate()
    assert one.process.wait(60) == 0


@pytest.mark.parametrize("why", ["in use", "beyond", "the API's"])
def test_metrics_ports_that_cannot_be_had_are_named_before_anything_starts(up: Callable[..., Up], why: str) -> None:
    with socket.socket() as taken:
        while not is_free((port := free_port()) - 1):  # worker-0's
            pass
        taken.bind(("127.0.0.1", port))
        taken.listen()
        port = {"in use": port, "beyond": 65_536, "the API's": free_port()}[why]
        one = up(
            "--workers",
            "2",
            "--api-port",
            str(port if why == "the API's" else free_port()),
            STOCKWEAVE_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}",
            STOCKWEAVE_METRICS_PORT=str(port - 1),
        )
        assert one.process.wait(30) == os.EX_CONFIG
    assert f"port {port}, for the metrics of worker-1, is {why}" in one.printed()
    assert "STOCKWEAVE_METRICS_PORT" in one.printed()
    assert one.starts("worker-0") == 0


def test_a_broker_killed_is_started_again_with_its_topics(up: Callable[..., Up]) -> None:
    port = free_port()
    one = up("--broker-port", str(port))
    one.until(lambda: one.starts("worker-0") > 0)
    named = Settings(bootstrap_servers=f"127.0.0.1:{port}")
    before = ensure_topics(named, f"127.0.0.1:{port}")
    os.kill(one.pid("broker"), signal.SIGKILL)
    one.until(lambda: one.starts("broker") == 2)
    assert "SIGKILL" in one.printed()
    one.until(lambda: kafka_answers(f"127.0.0.1:{port}", 0.5))
    assert ensure_topics(named, f"127.0.0.1:{port}") == before  # the same topics, by their ids
    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(60) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's own")
def test_after_a_kill_nothing_is_left_and_the_next_start_works(up: Callable[..., Up]) -> None:
    port = free_port()
    one = up("--broker-port", str(port))
    one.until(lambda: one.starts("worker-0") > 0)
    pids = [one.pid("broker"), one.pid("worker-0")]
    one.process.kill()
    one.process.wait()
    deadline = time.monotonic() + 5
    while not _all_gone(pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    again = up("--broker-port", str(port))
    again.until(lambda: again.starts("worker-0") > 0)
    again.process.terminate()
    assert again.process.wait(60) == 0
