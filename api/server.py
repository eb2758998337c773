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
from pathlib import Path
from typing import Any, NoReturn

import structlog
from aiohttp import web

from api.ends import Ends
from api.feeds import FeedsView
from api.generation import GenerationView
from api.partition import ViewPartition
from api.policies import PolicyView
from api.succession import Succession
from api.view import View
from schemas.admin import Deployed
from schemas.codec import Codec
from schemas.registry import open_registry
from state.database import Resources
from state.follower import open_consumer
from state.generations import Directions, GenerationsFollower, look_up, read
from stockweave.errors import Fatal, StockweaveError
from stockweave.settings import Settings
from stockweave.world import SystemClock

log = structlog.get_logger(__name__)

FINISH_S = 7.0  # for requests under way: longer than a read waits by default, shorter than a supervisor does
SWITCH_INTERVAL_S = 0.001  # how long the follower's thread may keep the event loop waiting for the interpreter


def open_view(settings: Settings, bootstrap_servers: str, stock: Deployed) -> View:
    """Open a generation's stores below `<data_dir>/view` and a consumer for them; its successors come by themselves.

    The policies are read to their end.

    Args:
        settings: of the deployment.
        bootstrap_servers: of its Kafka.
        stock: the generation to begin with.

    Raises:
        Retriable: Kafka or the registry does not answer.
        Fatal: another process has the folder, or the disk refuses.
    """
    folder = settings.data_dir / "view"
    resources = Resources(settings.block_cache_bytes, settings.write_buffer_bytes, partitions=stock.partitions)
    previous = look_up(settings, bootstrap_servers, read(settings, bootstrap_servers)).previous
    floors = {} if previous is None else _positions(folder / previous.generation, previous, resources)

    def open_generation(topic: Deployed) -> GenerationView:
        consumer = open_consumer(bootstrap_servers, topic.name)
        try:
            partitions = _open_partitions(folder / topic.generation, topic, resources)
        except StockweaveError:
            consumer.close()
            raise
        return GenerationView(topic, partitions, consumer, Ends(bootstrap_servers, topic), clock)

    clock = SystemClock()
    served = open_generation(stock)
    for partition in served.partitions:
        partition.floor = floors.get(partition.number, {})
    records = GenerationsFollower(settings, bootstrap_servers)

    def look() -> Directions:
        return look_up(settings, bootstrap_servers, read(settings, bootstrap_servers))

    policies = PolicyView(settings, bootstrap_servers, Codec("Policy", open_registry(settings)))
    feeds = FeedsView(settings, bootstrap_servers)
    return View(Succession(served, open_generation, records, look, folder), policies, feeds, clock)


def _open_partitions(folder: Path, topic: Deployed, resources: Resources) -> list[ViewPartition]:
    partitions: list[ViewPartition] = []
    try:
        for number in range(topic.partitions):
            path = folder / str(number)
            partitions.append(ViewPartition(number, path, resources, topic.generation))
    except StockweaveError:
        for partition in partitions:
            partition.close()
        raise
    return partitions


def _positions(folder: Path, topic: Deployed, resources: Resources) -> dict[int, dict[str, int]]:
    """How far a generation was that this view served, by partition; its process ended before it served the next."""
    if not folder.is_dir():
        return {}
    positions = {}
    for partition in _open_partitions(folder, topic, resources):
        positions[partition.number] = partition.next_offsets()
        partition.close()
    return positions


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
        reasons = [task.exception() for task in (following, *others) if not task.cancelled()]
        reason = next(filter(None, reasons), None)
        _close(view, reason)
    if reason is not None:
        raise reason


def _close(view: View, reason: BaseException | None) -> None:
    """Close the view; where it ended for a reason, the close may fail for the same one, which is told as the first."""
    try:
        view.close()
    except Fatal as error:
        if reason is None:
            raise
        log.warning("view_not_closed", why=str(error))


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
