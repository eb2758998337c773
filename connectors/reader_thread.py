"""A thread that reads a topic for the feeds of this process, until it is told to stop. Used by `inbox` and `skus`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import NoReturn

from confluent_kafka import KafkaException

from stockweave.errors import Fatal


class ReaderThread:
    """One topic's. Made on the event loop, which hears of its end.

    Args:
        name: of the thread.
        topic: the deployed name, for messages.
        read: reads until the event is set, and leaves Kafka.
    """

    def __init__(self, name: str, topic: str, read: Callable[[threading.Event], None]) -> None:
        self._topic = topic
        self._read = read
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._loop = asyncio.get_running_loop()
        self._broken: asyncio.Future[Fatal] = self._loop.create_future()

    def start(self) -> None:
        """Begin to read; once it has, this does nothing."""
        if self._thread.ident is None:
            self._thread.start()

    async def stop(self) -> None:
        """Leave Kafka. The feeds have stopped before."""
        self._stopping.set()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    async def watch(self) -> NoReturn:
        """Raises `Fatal` when nothing will come any more."""
        raise await asyncio.shield(self._broken)

    def _run(self) -> None:
        why = Fatal(f"the reader of {self._topic} broke; the log says why, please report it")
        try:
            self._read(self._stopping)
        except Fatal as error:
            why = error
        except KafkaException as error:
            why = Fatal(f"{self._topic} cannot be read: {error.args[0].str()}; start the process again")
        finally:
            if not self._stopping.is_set():
                self._loop.call_soon_threadsafe(self._break, why)

    def _break(self, why: Fatal) -> None:
        if not self._broken.done():
            self._broken.set_result(why)
