"""A document's bytes for a thread, which waits for each block while the loop gets it. Used by `intake`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import structlog

from connectors.runner.letters import BYTES_MAX
from stockweave.errors import Retriable, StockweaveError

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Blocks:
    """Iterated over in a thread, closed on the loop. `head`: how the bytes begin."""

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self._blocks = guarded(blocks)
        self._loop = asyncio.get_running_loop()
        self._waited_for: Future[bytes | None] | None = None
        self._is_closed = False
        self.head = bytearray()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            self._waited_for = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            if self._is_closed:
                self._waited_for.cancel()
            block = self._waited_for.result()
            if block is None:
                return
            if len(self.head) <= BYTES_MAX:
                self.head += block
            yield block

    def close(self) -> None:
        """Let a thread that waits for the supplier go: nobody wants the rest."""
        self._is_closed = True
        if self._waited_for is not None:
            self._waited_for.cancel()

    async def _next(self) -> bytes | None:
        return await anext(self._blocks, None)


@contextmanager
def reading(blocks: Blocks) -> Iterator[ThreadPoolExecutor]:
    """A thread that reads them: of its own, for it waits for a supplier, which is no other's matter."""
    thread = ThreadPoolExecutor(1, "intake")
    try:
        yield thread
    finally:
        blocks.close()
        thread.shutdown(wait=False)


async def guarded(items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    """What a kind gives. A kind may be anybody's code: what it does not expect is its feed's failure alone.

    Raises:
        Retriable: it broke; the log says how.
    """
    try:
        async for item in items:
            yield item
    except StockweaveError:
        raise
    except Exception as error:
        log.exception("kind_broke")
        raise Retriable(f"its kind broke ({type(error).__name__}); the log says where") from error
