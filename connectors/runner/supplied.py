"""What a source gives in one poll, and whether it was the source that failed: not Kafka, nor what is done with it.

Used by `feed`, which tells its supplier's breaker and health.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from connectors.documents import Document
from connectors.runner.blocks import guarded
from stockweave.errors import Retriable

T = TypeVar("T")


class Supplied:
    """Of one poll.

    Args:
        on_answer: called for each document: the supplier is there.
    """

    def __init__(self, on_answer: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self.has_failed = False
        """Whether the source raised Retriable, or broke."""

    async def documents(self, documents: AsyncGenerator[Document, None]) -> AsyncGenerator[Document, None]:
        """The same ones; whoever reads their bytes is watched as well. Raises as `guarded`."""
        async with aclosing(self._watched(documents)) as watched:
            async for document in watched:
                self._on_answer()
                if document.blocks is not None:
                    document.blocks = self._watched(document.blocks)
                yield document

    async def _watched(self, items: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
        try:
            async with aclosing(guarded(items)) as them:
                async for item in them:
                    yield item
        except Retriable:
            self.has_failed = True
            raise
