"""PostgreSQL and Redis as they run in production, each in a folder of its own, with a front for reservations before it.

Durability: what Kafka acknowledges is in the page cache of its replicas, so the equals are `synchronous_commit=off` and
`appendfsync everysec`; beside them each at its strictest. The servers are the system's own packages (postgresql,
redis-server).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.python_peers import PROGRAMS, Environment
from stockweave.errors import Fatal
from stockweave.ports import free_port

ENVIRONMENT = Environment("reserve-peers", Path(__file__).with_name("requirements-reserve.txt"))
START_S = 30.0
UNITS = 10**9


class Peer(NamedTuple):
    """One contestant. `way`: of `programs/reserve_front.py`."""

    name: str
    way: str
    strict: bool


PEERS = (
    Peer("PostgreSQL FOR UPDATE", "lock", strict=False),
    Peer("PostgreSQL FOR UPDATE, fsync", "lock", strict=True),
    Peer("PostgreSQL UPDATE WHERE", "conditional", strict=False),
    Peer("PostgreSQL UPDATE WHERE, fsync", "conditional", strict=True),
    Peer("Redis Lua", "lua", strict=False),
    Peer("Redis Lua, fsync", "lua", strict=True),
)


@contextmanager
def running(peer: Peer, folder: Path, skus: Sequence[str]) -> Iterator[str]:
    """The URL of its front, with `UNITS` of each SKU.

    Raises:
        Fatal: a server is not installed, or does not start.
    """
    ENVIRONMENT.install()
    server = _redis if peer.way == "lua" else _postgres
    with server(folder, peer.strict, skus) as address:
        port = free_port()
        program = [str(ENVIRONMENT.python), str(PROGRAMS / "reserve_front.py"), peer.way, str(port), address]
        front = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        try:
            assert front.stdout is not None
            if front.stdout.readline().strip() != "ready":
                raise Fatal(f"the front of {peer.name} ended with {front.wait()}")
            if peer.way != "lua":
                _stock(address, skus)
            yield f"http://127.0.0.1:{port}"
        finally:
            front.kill()
            front.wait()


@contextmanager
def _postgres(folder: Path, strict: bool, _: Sequence[str]) -> Iterator[str]:
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        raise Fatal("PostgreSQL is not installed: apt-get install postgresql, or leave it out with --peers")
    data, port = folder / "postgres", free_port()
    data.mkdir()
    become = _not_root(data)
    subprocess.run([*become, str(binaries[-1] / "initdb"), "-D", str(data), "-U", "bench", "--no-sync"],
                   check=True, capture_output=True)  # fmt: skip
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "shared_buffers": "256MB",
        "max_connections": 100, "synchronous_commit": "on" if strict else "off", "max_wal_size": "4GB",
    }  # fmt: skip
    options = [f"-c{name}={value}" for name, value in settings.items()]
    server = subprocess.Popen([*become, str(binaries[-1] / "postgres"), "-D", str(data), *options],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        _await(lambda: subprocess.run([str(binaries[-1] / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)],
                                      capture_output=True, check=False).returncode == 0, "PostgreSQL")  # fmt: skip
        yield f"postgresql://bench@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(data)


@contextmanager
def _redis(folder: Path, strict: bool, skus: Sequence[str]) -> Iterator[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        raise Fatal("Redis is not installed: apt-get install redis-server, or leave it out with --peers")
    data, port = folder / "redis", free_port()
    data.mkdir()
    sync = "always" if strict else "everysec"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), "--save", ""]
    server = subprocess.Popen([binary, *options, "--appendonly", "yes", "--appendfsync", sync],
                              stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        ask = ["redis-cli", "-p", str(port)]
        _await(lambda: subprocess.run([*ask, "ping"], capture_output=True, check=False).stdout == b"PONG\n", "Redis")
        lines = "".join(f"SET stock:{sku} {UNITS}\n" for sku in skus)
        subprocess.run([*ask, "--pipe"], input=lines.encode(), check=True, capture_output=True)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(data)


def _stock(address: str, skus: Sequence[str]) -> None:
    """By a program of the peers' environment, for it has the client."""
    program = (
        "import asyncio, asyncpg, sys\n"
        "async def main():\n"
        "    connection = await asyncpg.connect(sys.argv[1])\n"
        f"    rows = [(sku, {UNITS}, 0) for sku in sys.stdin.read().split()]\n"
        "    await connection.copy_records_to_table('stock', records=rows)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([str(ENVIRONMENT.python), "-c", program, address], input=" ".join(skus), text=True, check=True)


def _not_root(folder: Path) -> list[str]:
    """How to become somebody else, where we are root: PostgreSQL does not run as such."""
    if os.getuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    for parent in folder.parents:
        if parent.stat().st_uid == 0 and parent != Path("/") and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _await(ready: object, name: str) -> None:
    deadline_s = time.monotonic() + START_S
    while not ready():  # type: ignore[operator]
        if time.monotonic() > deadline_s:
            raise Fatal(f"{name} did not start within {START_S:g} s")
        time.sleep(0.1)
