"""The API's process: opens the view, listens, and ends when told to, or when the view can no longer follow.

Order at the end: no new requests, those under way finish (the view still follows, so that a read that waits for a write
gets its answer), then the view stops and its stores are closed. Called by `stockweave.serve`.
"""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from collections.abc import Coroutine, Iterable
from typing import Any, NoReturn

import structlog
from aiohttp import web
from confluent_kafka import Consumer

from api.ends import Ends
from api.partition import ViewPartition
from api.view import View
from schemas.admin import Deployed
from state.follower import follower_config
from state.store import Resources
from stockweave.clients import CLIENT_LOGGER
from stockweave.errors import Fatal, StockweaveError
from stockweave.settings import Settings
from stockweave.world import SystemClock

log = structlog.get_logger(__name__)

FINISH_S = 7.0  # for requests under way: longer than a read waits by default, shorter than a supervisor does
SWITCH_INTERVAL_S = 0.001  # how long the follower's thread may keep the event loop waiting for the interpreter


def open_view(settings: Settings, bootstrap_servers: str, stock: Deployed) -> View:
    """Open the stores of `<data_dir>/view` and a consumer for them.

    Raises:
        Fatal: another process has the folder, or the disk refuses.
    """
    resources = Resources(settings.block_cache_bytes, settings.write_buffer_bytes)
    partitions: list[ViewPartition] = []
    try:
        for number in range(stock.partitions):
            path = settings.data_dir / "view" / str(number)
            partitions.append(ViewPartition(number, path, resources, stock.generation))
    except StockweaveError:
        for partition in partitions:
            partition.close()
        raise
    consumer = Consumer(follower_config(bootstrap_servers), logger=CLIENT_LOGGER)
    return View(stock, partitions, consumer, Ends(bootstrap_servers, stock), SystemClock())


async def serve(
    app: web.Application, view: View, host: str, port: int, watched: Iterable[Coroutine[Any, Any, NoReturn]] = ()
) -> None:
    """Answer until SIGTERM or SIGINT; the view is closed then.

    Args:
        app: answers from `view`.
        view: opened; run here.
        host: address to listen on.
        port: 0 for any.
        watched: each raises when the process can't go on.

    Raises:
        Fatal: the address cannot be listened on, the view cannot go on, or what `watched` raised.
    """
    loop = asyncio.get_running_loop()
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=FINISH_S)
    following = asyncio.create_task(view.run())
    others = [asyncio.create_task(other) for other in (told_to_stop.wait(), *watched)]
    try:
        await runner.setup()
        await _listen(runner, host, port)
        await asyncio.wait({following, *others}, return_when=asyncio.FIRST_COMPLETED)
        log.info("api_stops", told=told_to_stop.is_set())
    finally:
        await runner.cleanup()
        view.stop()
        for other in others:
            other.cancel()
        await asyncio.wait({following, *others})
        view.close()
    for task in (following, *others):
        if not task.cancelled():
            task.result()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Fatal(
                f"port {port} on {host} is in use: stop what listens there, or choose another with --api-port "
                "(STOCKWEAVE_API_PORT)"
            ) from error
        raise Fatal(
            f"cannot listen on {host}:{port}: {error.strerror}; mend STOCKWEAVE_API_HOST, or choose another --api-port"
        ) from error
    log.info("api_listens", addresses=[f"{address[0]}:{address[1]}" for address in runner.addresses])
