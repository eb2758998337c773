"""The system that faults are injected into: broker, proxy, workers and API, and who watches them. Used by runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

from tests.system.chaos.broker import Broker
from tests.system.chaos.disk import SmallDisks
from tests.system.chaos.faults import World
from tests.system.chaos.plan import Options
from tests.system.chaos.proxy import Proxy
from tests.system.chaos.report import Report
from tests.system.chaos.watch import Watch
from tests.system.stack import Stack, Supervised

PARTITIONS, WORKERS = 4, 2

# So that stores write to their disks all the time, and not only after the first hundred megabytes of rows.
SMALL_STORES = {"STOCKWEAVE_WRITE_BUFFER_BYTES": str(4 << 20), "STOCKWEAVE_ROW_CACHE_BYTES": str(1 << 20)}


@asynccontextmanager
async def started(
    data_dir: Path, options: Options, rng: random.Random, report: Report, disks: SmallDisks | None
) -> AsyncIterator[World]:
    """A fresh system behind the proxy; what is still running in the end is stopped.

    Args:
        data_dir: of its broker and of every process.
        options: of the run.
        rng: draws what the proxy does.
        report: of the run.
        disks: of the processes, None where they have the machine's.
    """
    async with AsyncExitStack() as stop:
        broker = Broker(data_dir)
        stack = Stack(
            data_dir,
            WORKERS,
            wrapper=disks.wrapper if disks else (),
            STOCKWEAVE_BOOTSTRAP_SERVERS=f"127.0.0.1:{broker.proxy_port}",
            STOCKWEAVE_TRANSACTION_TIMEOUT_MS=str(options.transaction_timeout_ms),
            **SMALL_STORES,
        )
        others: dict[str, Supervised] = {}
        # Before the broker, whose start takes seconds: nobody else is to take the port that it advertises.
        proxy = Proxy(broker.proxy_port, broker.behind_port, _Owners(stack, others), rng)
        await stop.enter_async_context(proxy)
        stop.enter_context(broker)
        await asyncio.to_thread(stack.start)
        stop.push_async_callback(asyncio.to_thread, stack.stop)  # the proxy goes on meanwhile
        if disks:
            disks.belong_to(stack.process.pid)
        watch = Watch(broker.bootstrap_servers, PARTITIONS)
        watch.start()
        stop.callback(watch.stop)
        workers = [f"worker-{number}" for number in range(WORKERS)]
        yield World(stack, broker, proxy, disks, watch, rng, report, options.half_open_s, workers, others)


async def all_at_once(
    faults: Coroutine[None, None, None], others: Sequence[tuple[Coroutine[None, None, None], asyncio.Event]]
) -> None:
    """Let others go on as long as there are faults, and then tell each to stop; what fails first ends all."""
    injecting = asyncio.create_task(faults)
    going = [asyncio.create_task(other) for other, _ in others]
    try:
        await asyncio.wait({*going, injecting}, return_when=asyncio.FIRST_COMPLETED)
        if not injecting.done():
            injecting.cancel()
    finally:
        for _, stopping in others:
            stopping.set()
        results = await asyncio.gather(*going, injecting, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


class _Owners:
    """Which child of a stack, or of another program of ours, opened a connection, by its port."""

    def __init__(self, stack: Stack, others: Mapping[str, Supervised]) -> None:
        self._stack = stack
        self._others = others

    def __call__(self, port: int) -> str | None:
        for program in (self._stack, *self._others.values()):
            for name, pid in program.pids.items():
                try:
                    if any(c.laddr.port == port for c in psutil.Process(pid).net_connections("tcp4")):
                        return name
                except psutil.NoSuchProcess:
                    continue  # it was killed, and its successor has not been heard of yet
        return None
