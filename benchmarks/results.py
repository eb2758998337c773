"""Results as files: figures with the machine, versions and commit that they are of. Pictures are drawn from them."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import orjson
import psutil

from stockweave.broker.jars import KAFKA_VERSION
from stockweave.broker.java import find_java

FOLDER = Path(__file__).with_name("results")
PACKAGES = ("confluent-kafka", "faust-streaming", "rocksdict", "msgspec", "fastavro", "pyruhvro", "pyarrow", "aiohttp")


def environment() -> dict[str, Any]:
    """What figures depend on beside the code."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "java": find_java().major,
        "kafka": KAFKA_VERSION,
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def save(name: str, options: dict[str, Any], figures: Any) -> Path:  # noqa: ANN401 - whatever JSON can hold
    """Write `results/<name>.json`, in place of the last."""
    content = {
        "benchmark": name,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "environment": environment(),
        "options": options,
        "figures": figures,
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")
    return path


def load(name: str) -> dict[str, Any] | None:
    """The last results of a benchmark, None when there are none."""
    path = FOLDER / f"{name}.json"
    loaded: dict[str, Any] | None = orjson.loads(path.read_bytes()) if path.exists() else None
    return loaded


def _commit() -> str:
    """Short, with a plus where files differ from it; empty outside a repository."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
        capture_output=True, text=True, check=False, cwd=FOLDER.parent,
    )  # fmt: skip
    return described.stdout.strip()


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
