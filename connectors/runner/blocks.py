"""A document's bytes for a thread, which waits for each block while the loop gets it. Used by `intake`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import structlog

from connectors.runner.letters import BYTES_MAX
from stockweave.errors import Retriable, StockweaveError

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Blocks:
    """Iterated over in a thread, closed on the loop. `head`: how the bytes begin."""

    def __init__(self, blocks: AsyncGenerator[bytes, None]) -> None:
        self._blocks = guarded(blocks)
        self._loop = asyncio.get_running_loop()
        self._reading: asyncio.Task[bytes | None] | None = None
        self.head = bytearray()

    def __iter__(self) -> Iterator[bytes]:
        while (block := asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()) is not None:
            if len(self.head) <= BYTES_MAX:
                self.head += block
            yield block

    async def close(self) -> None:
        """Let a thread that waits for the supplier go: nobody wants the rest."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self._blocks.aclose()

    async def _next(self) -> bytes | None:
        self._reading = asyncio.current_task()
        try:
            return await anext(self._blocks, None)
        finally:
            self._reading = None


@asynccontextmanager
async def reading(blocks: Blocks) -> AsyncGenerator[ThreadPoolExecutor, None]:
    """A thread that reads them: of its own, for it waits for a supplier, which is no other's matter."""
    thread = ThreadPoolExecutor(1, "intake")
    try:
        yield thread
    finally:
        await blocks.close()
        thread.shutdown(wait=False)


async def guarded(items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """What a kind gives. A kind may be anybody's code: what it does not expect is its feed's failure alone.

    Raises:
        Retriable: it broke; the log says how.
    """
    try:
        async with aclosing(items):
            async for item in items:
                yield item
    except StockweaveError:
        raise
    except Exception as error:
        log.exception("kind_broke")
        raise Retriable(f"its kind broke ({type(error).__name__}); the log says where") from error
