"""The jars' cache, against a repository served over HTTP here: pinned, fetched once, and clear when it can't be."""

from __future__ import annotations

import functools
import gc
import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from stockweave.broker.jars import KAFKA_VERSION, Jar, ensure_jars, locked_jars
from stockweave.errors import Fatal
from stockweave.ports import free_port

CONTENT = b"a jar's bytes" * 1000
JAR = Jar("org.example.a", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


class _Repository(ThreadingHTTPServer):
    asked: int = 0


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Repository)
        self.server.asked += 1
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[_Repository]:
    folder = tmp_path / "repository" / "org/example/a/thing/1.0"
    folder.mkdir(parents=True)
    (folder / "thing-1.0.jar").write_bytes(CONTENT)
    server = _Repository(("127.0.0.1", 0), functools.partial(_Handler, directory=str(tmp_path / "repository")))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def _url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}/"


def _quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_jar_is_fetched_once_and_then_found_offline(tmp_path: Path, repository: _Repository) -> None:
    cache = tmp_path / "cache"
    assert [p.read_bytes() for p in ensure_jars(cache, _url(repository), _quiet(), [JAR])] == [CONTENT]
    asked = repository.asked
    unreachable = f"http://127.0.0.1:{free_port()}"
    assert ensure_jars(cache, unreachable, _quiet(), [JAR]) == [cache / "thing-1.0.jar"]
    assert repository.asked == asked > 0
    assert not list(cache.glob("fetch-*"))


def test_a_jar_that_fails_its_hash_is_named_and_not_kept(tmp_path: Path, repository: _Repository) -> None:
    wrong = Jar(JAR.group, JAR.artifact, JAR.version, "0" * 64, JAR.size_bytes)
    with pytest.raises(Fatal, match=r"thing-1.0.jar fails its hash .* removed.*STOCKWEAVE_MAVEN_REPOSITORY"):
        ensure_jars(tmp_path / "cache", _url(repository), _quiet(), [wrong])
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_a_jar_changed_in_the_cache_before_it_was_trusted_is_fetched_again(
    tmp_path: Path, repository: _Repository
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / JAR.name).write_bytes(b"X" * JAR.size_bytes)
    ensure_jars(cache, _url(repository), _quiet(), [JAR])
    assert (cache / JAR.name).read_bytes() == CONTENT


def test_a_jar_cut_short_in_a_trusted_cache_is_fetched_again(tmp_path: Path, repository: _Repository) -> None:
    cache = tmp_path / "cache"
    ensure_jars(cache, _url(repository), _quiet(), [JAR])
    (cache / JAR.name).write_bytes(CONTENT[:10])
    ensure_jars(cache, _url(repository), _quiet(), [JAR])
    assert (cache / JAR.name).read_bytes() == CONTENT


def test_a_repository_out_of_reach_gives_one_line_with_the_remedy(tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(Fatal) as raised:
        ensure_jars(tmp_path / "cache", f"http://127.0.0.1:{port}", _quiet(), [JAR])
    assert "cannot fetch org.example.a:thing:1.0" in str(raised.value)
    assert "STOCKWEAVE_MAVEN_REPOSITORY" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_repository_without_the_jar_gives_one_line_with_the_remedy(tmp_path: Path, repository: _Repository) -> None:
    other = Jar("org.example.a", "other", "1.0", JAR.sha256, JAR.size_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # jgo leaves the body of a 404 unread, and so its socket open
        message = _failure(tmp_path / "cache", _url(repository), other)
        gc.collect()
    assert "cannot fetch org.example.a:other:1.0" in message
    assert "STOCKWEAVE_MAVEN_REPOSITORY" in message


def _failure(cache: Path, repository: str, jar: Jar) -> str:
    try:
        ensure_jars(cache, repository, _quiet(), [jar])
    except Fatal as error:
        return str(error)
    return "none"


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Fatal, match=r"cache folder .*file/cache.*XDG_CACHE_HOME"):
        ensure_jars(tmp_path / "file" / "cache", None, _quiet(), [JAR])


def test_the_lock_names_one_kafka_a_log_binding_and_no_address() -> None:
    jars = locked_jars()
    assert {jar.version for jar in jars if jar.group == "org.apache.kafka"} == {KAFKA_VERSION}
    assert {"kafka_2.13", "log4j-slf4j-impl", "log4j-core", "log4j-api"} <= {jar.artifact for jar in jars}
    assert len({jar.name for jar in jars}) == len(jars)
    lock = (Path(__file__).parents[3] / "stockweave" / "broker" / "jars.lock").read_text()
    assert "://" not in lock
