"""Kafka's jars in the user's cache, each pinned by SHA-256 in `jars.lock`; fetched once, then used offline.

Invariant: a jar is in the cache under its own name only if its hash matched. Called by `stockweave.broker.kafka`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from stockweave.errors import Fatal

KAFKA_VERSION = "4.3.1"
_CONNECTIONS = 8
_TIMEOUT_S = 30


@dataclass(frozen=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def name(self) -> str:
        """File name in the cache."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def coordinates(self) -> str:
        """As Maven writes them."""
        return f"{self.group}:{self.artifact}:{self.version}"


def locked_jars() -> list[Jar]:
    """The lock's content, in its order."""
    jars = []
    for line in _lock_text().splitlines():
        if line and not line.startswith("#"):
            coordinates, sha256, size = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256, int(size)))
    return jars


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/stockweave/kafka-<version>`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "stockweave" / f"kafka-{KAFKA_VERSION}"


def ensure_jars(cache: Path, repository: str | None, console: Console, jars: Sequence[Jar] | None = None) -> list[Path]:
    """Make all jars present and right; returns their paths, in the lock's order.

    Args:
        cache: the folder that holds them.
        repository: base address of a Maven repository, or None for the public one.
        console: where progress is shown; nothing is printed when all is there.
        jars: what to make present instead of the lock's content.

    Raises:
        Fatal: a jar could not be fetched, or what came fails its hash.
    """
    wanted = locked_jars() if jars is None else jars
    verified = cache / ("verified-" + hashlib.sha256(repr(wanted).encode()).hexdigest()[:16])
    trusted = verified.exists()
    missing = [jar for jar in wanted if not _is_right(cache / jar.name, jar, by_size_only=trusted)]
    if missing:
        _fetch_all(missing, cache, repository, console)
    if missing or not trusted:
        verified.touch()
    return [cache / jar.name for jar in wanted]


def _lock_text() -> str:
    return files("stockweave.broker").joinpath("jars.lock").read_text("utf-8")


def _is_right(path: Path, jar: Jar, *, by_size_only: bool) -> bool:
    """Hashed once; after that a start looks at sizes alone, which takes a millisecond for all."""
    if not path.is_file() or path.stat().st_size != jar.size_bytes:
        return False
    return by_size_only or _sha256(path) == jar.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch_all(jars: Sequence[Jar], cache: Path, repository: str | None, console: Console) -> None:
    total_bytes = sum(jar.size_bytes for jar in jars)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Fatal(f"cannot make the cache folder {cache}: {error.strerror}; set XDG_CACHE_HOME to another") from error
    if not console.is_terminal:
        console.print(f"Fetching Kafka {KAFKA_VERSION} ({len(jars)} jars, {total_bytes / 1e6:.0f} MB) into {cache}")
    staging = Path(tempfile.mkdtemp(prefix="fetch-", dir=cache))
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    try:
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task(f"Fetching Kafka {KAFKA_VERSION}", total=total_bytes)
            context = _maven(staging, repository, lambda read_bytes: progress.advance(task, read_bytes))
            pool = ThreadPoolExecutor(_CONNECTIONS)
            try:
                for done in as_completed([pool.submit(_fetch, jar, context, cache) for jar in jars]):
                    done.result()
            finally:
                pool.shutdown(cancel_futures=True)
    finally:
        shutil.rmtree(staging)


def _maven(staging: Path, repository: str | None, advance: Callable[[int], None]) -> MavenContext:
    @contextmanager
    def progress(_name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        yield advance

    return MavenContext(
        resolver=PythonResolver(progress_callback=progress),
        repo_cache=staging,
        local_repos=[],
        remote_repos={"mirror": repository.rstrip("/")} if repository else None,
        timeout=_TIMEOUT_S,
    )


def _fetch(jar: Jar, context: MavenContext, cache: Path) -> None:
    try:
        fetched = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    except (OSError, RuntimeError) as error:  # every error of requests is an OSError; jgo raises RuntimeError for a 404
        raise Fatal(
            f"cannot fetch {jar.coordinates} from {' '.join(context.remote_repos.values())} ({type(error).__name__}): "
            "check the network, or name a Maven repository that you can reach in STOCKWEAVE_MAVEN_REPOSITORY, "
            "or a running Kafka in STOCKWEAVE_BOOTSTRAP_SERVERS"
        ) from error
    found = _sha256(fetched)
    if found != jar.sha256:
        fetched.unlink()
        raise Fatal(
            f"{jar.name} fails its hash (expected sha256 {jar.sha256}, got {found}) and was removed: "
            f"what {' '.join(context.remote_repos.values())} serves is not the pinned file; start again, "
            "or name another repository in STOCKWEAVE_MAVEN_REPOSITORY"
        )
    fetched.replace(cache / jar.name)
