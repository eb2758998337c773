"""Connectors in this process, on topics of their own, with a folder of configuration; for tests of every kind."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import msgspec
from confluent_kafka import Message

from connectors.configuration.load import load
from connectors.kinds import kinds
from connectors.runner.process import Reached, run
from connectors.runner.progress import Kept, note
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.topics import DEAD_LETTERS, FEEDS, UPDATES
from tests.deployment import Deployment

WAIT_S = 30.0
SIMPLE = {"version": 1, "sku": "code", "quantity": "stock"}


def csv_feed(path: Path, **more: Any) -> dict[str, Any]:
    """A feed of CSV files in a folder, with columns `code` and `stock`."""
    source = {"kind": "folder", "path": str(path), "settle_s": 0.0} | more.pop("source", {})
    return {"source": source, "format": {"format": "csv"}, "mapping": SIMPLE, "poll": {"every_s": 0.2}} | more


class Running:
    """`async with` starts and stops it; `configure` may be called before and meanwhile."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self._told = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def configure(self, supplier: str, limits: dict[str, Any] | None = None, **feeds: dict[str, Any]) -> None:
        content = {"supplier": supplier, "feeds": feeds} | ({} if limits is None else {"limits": limits})
        file = self.folder / f"{supplier}.yaml"
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(content))  # which is YAML
        draft.replace(file)

    async def start(self) -> None:
        loaded = load(self.folder, kinds())
        assert loaded.faults == []
        self._told = asyncio.Event()
        reached = Reached(self.deployment.topics, Codec("StockUpdate", FileRegistry()))
        self.task = asyncio.create_task(
            run(self.deployment.base, self.folder, kinds(), loaded, reached, told_to_stop=self._told)
        )

    async def stop(self) -> None:
        self._told.set()
        if self.task is not None:
            await self.task

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def until(self, is_so: Callable[[], bool], wait_s: float = WAIT_S) -> None:
        """Wait until something is so; it is asked in a thread."""
        give_up_s = time.monotonic() + wait_s
        while not await asyncio.to_thread(is_so):
            if self.task is not None and self.task.done():
                self.task.result()
            assert time.monotonic() < give_up_s, "it never came to be"
            await asyncio.sleep(0.05)

    async def until_updates(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many, and give them."""
        await self.until(lambda: self.deployment.end_of_updates() >= count)
        return await asyncio.to_thread(self.updates)

    def updates(self) -> list[dict[str, Any]]:
        """All, partition by partition in its order."""
        messages = sorted(self.deployment.read(UPDATES.name), key=lambda m: (m.partition(), m.offset()))
        return cast("list[dict[str, Any]]", self.deployment.codec.decode([m.value() for m in messages]))

    def letters(self) -> list[Message]:
        return list(self.deployment.read(DEAD_LETTERS.name))

    def held(self, feed: str = "acme/stock") -> dict[str, Any] | None:
        """The snapshot of a feed that waits for a person."""
        found: dict[str, Any] | None = self.progress().get(feed, {}).get("held")
        return found

    def progress(self) -> dict[str, dict[str, Any]]:
        """The newest of each feed."""
        kept: dict[str, Kept] = {}
        for message in self.deployment.read(FEEDS.name):
            note(kept, message)
        return {feed: msgspec.to_builtins(each.progress) for feed, each in kept.items() if each.progress.at_ms}


def told(message: Message) -> dict[str, str]:
    """A dead letter's headers."""
    return {name: (value or b"").decode() for name, value in cast("list[tuple[str, bytes]]", message.headers())}


def units(updates: list[dict[str, Any]]) -> dict[str, int]:
    """By SKU, of the latest."""
    return {each["sku"]: each["quantity"] for each in sorted(updates, key=lambda u: (u["observed_at"], u["update_id"]))}


def repeats(updates: list[dict[str, Any]]) -> int:
    """How many came again."""
    return sum(n - 1 for n in Counter((u["sku"], u["update_id"]) for u in updates).values())
