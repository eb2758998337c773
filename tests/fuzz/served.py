"""The API as it is served: `stockweave api` in a process of its own, read and push routes on one port, a real Kafka."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

from stockweave.ports import free_port
from tests.api.reservations.worker import Worker
from tests.api.stock import Stock, row

ROOT = Path(__file__).parents[2]
STARTS_S = 60.0
READ_WAIT_MS = "20"  # many reads wait for a write that never was
CHECKS_AS_THEIR_OWN = (  # see `tests.fuzz.checks`
    "positive_data_acceptance,negative_data_rejection,not_a_server_error,allow_header_conformance"
)


class Conformance(NamedTuple):
    """What schemathesis found. `cases`: requests; `failures`: what it says of each, none when all is well."""

    cases: int
    seconds: float
    failures: str


class Served:
    """`with` starts and stops it.

    Args:
        bootstrap_servers: of a Kafka.
        folder: for its view and its log.
    """

    def __init__(self, bootstrap_servers: str, folder: Path) -> None:
        self._stock = Stock(bootstrap_servers, folder)
        self._worker = Worker(self._stock)  # for what is reserved; updates are folded by nobody
        self._worker.stock(row("milk", acme=3), row("tea", acme=1, bolt__shop=-2), row("caf\u00e9", acme=0))
        self._log = folder / "api.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        settings = self._stock.settings
        environment = {k: v for k, v in os.environ.items() if not k.startswith("STOCKWEAVE_")} | {
            "STOCKWEAVE_BOOTSTRAP_SERVERS": self._stock.bootstrap_servers,
            "STOCKWEAVE_TOPIC_PREFIX": settings.topic_prefix,
            "STOCKWEAVE_PARTITIONS": str(settings.partitions),
            "STOCKWEAVE_READ_WAIT_MS": READ_WAIT_MS,
        }
        command = [sys.executable, "-X", "faulthandler", "-m", "stockweave", "api"]
        command += ["--data-dir", str(settings.data_dir), "--api-port", str(self.port)]
        self._worker.__enter__()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)
        deadline_s = time.monotonic() + STARTS_S
        while not self.ready():
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline_s, self.log()
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self._worker.__exit__(kind, error, trace)
        assert self.process.wait(30) == 0, self.log()

    def ready(self) -> bool:
        """Whether it answers reads."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.HTTPError, OSError):
            return False

    def memory_bytes(self) -> int:
        """In use by its process."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def log(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-4_000:]

    def defects(self) -> list[str]:
        """What its log has of requests that ended in an exception, which no answer tells."""
        lines = self._log.read_text(errors="replace").splitlines()
        return [line[-1_000:] for line in lines if "Error handling request" in line and "http_exceptions" not in line]

    def conform(self, seed: int, examples: int, folder: Path) -> Conformance:
        """Schemathesis over the served description, with every check; three of them as `tests.fuzz.checks` has them."""
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{self.url}/openapi.json", "--no-color"]
        command += [
            "--checks",
            "all",
            "--exclude-checks",
            CHECKS_AS_THEIR_OWN,
            "--seed",
            str(seed),
            "-n",
            str(examples),
        ]
        command += ["--generation-database", "none", "--continue-on-failure", "--no-shrink", "--warnings", "off"]
        command += ["--suppress-health-check", "filter_too_much,too_slow"]
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.checks", "PYTHONPATH": str(ROOT)}
        began_s = time.monotonic()
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
        said = ended.stdout + ended.stderr
        cases = re.search(r"(\d+) generated", said)
        failures = "" if ended.returncode == 0 and cases else said[said.find("= FAILURES") :]
        return Conformance(int(cases[1]) if cases else 0, time.monotonic() - began_s, failures)
