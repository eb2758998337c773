"""The command as a user calls it: one clear line and the right exit code when it can't go on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stockweave import cli
from stockweave.errors import Fatal, Rejected, Retriable, StockweaveError
from stockweave.folder_lock import lock_folder
from stockweave.ports import free_port
from tests.conftest import BrokerFactory

ROOT = Path(__file__).parents[2]


def _stockweave(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("STOCKWEAVE_")}
    return subprocess.run(
        [sys.executable, "-m", "stockweave", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**env, **environment},
    )


@pytest.mark.parametrize("command", ["worker", "api"])
def test_a_worker_or_api_without_a_kafka_says_which_variable_names_one(command: str) -> None:
    done = _stockweave(command)
    assert done.returncode == os.EX_CONFIG
    (line,) = done.stderr.splitlines()
    assert "STOCKWEAVE_BOOTSTRAP_SERVERS" in line


def test_a_wrong_setting_is_named_as_its_variable() -> None:
    done = _stockweave("up", STOCKWEAVE_WORKERS="many")
    assert done.returncode == os.EX_CONFIG
    (line,) = done.stderr.splitlines()
    assert line.startswith("stockweave: STOCKWEAVE_WORKERS is 'many'")


def test_an_api_port_in_use_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = _stockweave("up", "--data-dir", str(tmp_path), "--api-port", str(port))
    assert done.returncode == os.EX_CONFIG
    (line,) = done.stderr.splitlines()
    assert f"port {port} " in line
    assert "--api-port" in line
    assert done.stdout == ""


def test_a_broker_port_in_use_ends_up_with_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = _stockweave(
            "up", "--data-dir", str(tmp_path), "--api-port", str(free_port()), "--broker-port", str(port)
        )
    assert done.returncode == os.EX_CONFIG
    (line,) = done.stderr.splitlines()
    assert f"port {port} " in line
    assert "--broker-port" in line


def test_a_second_up_in_the_folder_is_refused(tmp_path: Path) -> None:
    with lock_folder(tmp_path, "stockweave"):
        done = _stockweave("up", "--data-dir", str(tmp_path), "--api-port", str(free_port()))
    assert done.returncode == os.EX_CONFIG
    assert f"{tmp_path} is in use by another stockweave" in done.stderr


def test_a_damaged_broker_folder_ends_up_with_one_line(tmp_path: Path, broker_factory: BrokerFactory) -> None:
    kafka = broker_factory()
    kafka.prepare()
    kafka.release()
    (kafka.data_dir / "broker" / "kafka" / "meta.properties").write_bytes(b"\xff")
    done = _stockweave(
        "up", "--data-dir", str(kafka.data_dir), "--api-port", str(free_port()), "--broker-port", str(kafka.port)
    )
    assert done.returncode == os.EX_CONFIG
    (line,) = done.stderr.splitlines()
    assert "damaged" in line
    assert "move it away" in line


def test_jars_that_cannot_be_fetched_end_up_with_one_line(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    done = _stockweave(
        "up",
        "--data-dir",
        str(tmp_path / "data"),
        "--api-port",
        str(free_port()),
        "--broker-port",
        str(free_port()),
        XDG_CACHE_HOME=str(tmp_path / "cache"),
        STOCKWEAVE_MAVEN_REPOSITORY=nowhere,
    )
    assert done.returncode == os.EX_CONFIG
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("stockweave:")]
    assert f"from {nowhere}" in line
    assert "STOCKWEAVE_MAVEN_REPOSITORY" in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(Fatal("f"), 78), (Retriable("r"), 75), (Rejected("code", "r"), 65)],
)
def test_each_class_of_error_has_its_exit_code(
    error: StockweaveError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert capsys.readouterr().err == f"stockweave: {error}\n"
