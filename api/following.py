"""What is followed on a thread of its own, beside the stock: a base of `policies` and `feeds`."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor


class Following(ABC):
    """Args: name: of the thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._stopping = threading.Event()

    async def run(self) -> None:
        """Follow until `stop`; raises what following does."""
        thread = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self._follow)
        finally:
            thread.shutdown()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()

    @abstractmethod
    def _follow(self) -> None:
        """Until `_stopping` is set."""
