"""Follows inventory.sku-map for the feeds of this process that map by it.

Invariant: `ready` returns only when the topic was read to its end once, so no row is mapped by half a map; what changes
later holds for what is read later. Nothing is read until a feed asks. Made by `process`, used by `supervisor`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

import structlog
from confluent_kafka import Message

from connectors.mapping.sku_map import SkuMap, SupplierSkus
from connectors.reader_thread import ReaderThread
from schemas.admin import Deployed
from schemas.sku_map import Entry, entry_of
from schemas.small_topic import Reading
from stockweave.errors import Rejected

log = structlog.get_logger(__name__)

POLL_S = 0.1


class SkuFollower:
    """One for a process, on a thread of its own.

    Args:
        bootstrap_servers: of its Kafka.
        topic: inventory.sku-map as deployed.
    """

    def __init__(self, bootstrap_servers: str, topic: Deployed) -> None:
        self._servers = bootstrap_servers
        self._topic = topic.name
        self._map = SkuMap()
        self._thread = ReaderThread("sku-map", self._topic, self._follow)
        self._loop = asyncio.get_running_loop()
        self._read = asyncio.Event()
        self._hearing: dict[Callable[[], None], str] = {}

    def of(self, supplier_id: str) -> SupplierSkus:
        """A supplier's part, as one feed sees it; to be looked up in once `ready` has returned."""
        self._thread.start()
        return self._map.of(supplier_id)

    async def ready(self) -> None:
        """Until all that the topic held was read."""
        await self._read.wait()

    def tell(self, supplier_id: str, hear: Callable[[], None]) -> None:
        """Have it called on the loop after entries of a supplier have changed."""
        self._hearing[hear] = supplier_id

    def tell_no_more(self, hear: Callable[[], None]) -> None:
        """Take that back."""
        self._hearing.pop(hear, None)

    async def stop(self) -> None:
        """Leave Kafka. The feeds have stopped before."""
        await self._thread.stop()

    async def watch(self) -> NoReturn:
        """Raises `Fatal` when changes are not heard of any more."""
        await self._thread.watch()

    def _follow(self, stopping: threading.Event) -> None:
        reading = Reading(self._topic, self._servers)
        is_told = False
        try:
            while not stopping.is_set():
                changed = list(entries(reading.poll(POLL_S)))
                self._map.change(changed)
                if is_told and changed:
                    self._loop.call_soon_threadsafe(self._tell, {entry.supplier_id for entry in changed})
                if not is_told and reading.ended_at >= 0:
                    is_told = True
                    self._loop.call_soon_threadsafe(self._read.set)
        finally:
            reading.close()

    def _tell(self, suppliers: set[str]) -> None:
        for hear, supplier_id in list(self._hearing.items()):
            if supplier_id in suppliers:
                hear()


def entries(messages: Iterable[Message]) -> Iterator[Entry]:
    """What records say; one that is none of ours changes nothing."""
    for message in messages:
        try:
            yield entry_of(message)
        except Rejected as why:
            log.warning("sku_map_unreadable", why=str(why))
