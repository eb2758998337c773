"""The pump's loop: what is due between batches is done, however many there are."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stockweave.errors import Retriable
from streams import pump as pump_module
from streams.assembly import Engine
from streams.batch import Batch
from streams.pump import Pump, Work


class Endless:
    """A processor that always has a batch; each is committed. `polled`: from which threads; `enough`: chores."""

    def __init__(self, enough: int) -> None:
        self.enough, self.told = enough, asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.polled: set[str] = set()
        self.done: list[str] = []

    def poll(self) -> Batch:
        self.polled.add(threading.current_thread().name)
        return Batch([], None)

    def fold(self, _: Batch) -> list[Any]:
        return []

    def commit(self, _: Batch, __: list[Any]) -> bool:
        self.done.append("batch")
        return True

    def rewind(self) -> None:
        self.done.append("rewind")

    def stages(self) -> dict[int, Any]:
        return {}

    def lag(self) -> dict[int, int]:
        return {}

    def look(self) -> None:
        self.done.append("look")
        if self.done.count("look") == self.enough:
            self._loop.call_soon_threadsafe(self.told.set)


def engine(processor: Endless) -> Engine:
    nothing = SimpleNamespace(has_any=False, take=lambda: None, check=lambda: None, own=lambda _: None)
    standby = SimpleNamespace(**vars(nothing), worked_on=SimpleNamespace(number=0))
    return cast("Engine", SimpleNamespace(processor=processor, folder=processor, standby=standby, policies=processor))


async def send(work: Work) -> None:
    work.turning.set_result(asyncio.get_running_loop().run_in_executor(work.thread, work.turn, work.batch))


async def moved(processor: Endless, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are moved until there were enough chores."""
    monkeypatch.setattr(pump_module, "CHORES_EVERY_S", 0.02)
    monkeypatch.setattr(pump_module, "DRAIN_S", 0.0)
    monkeypatch.setattr(pump_module, "RETRY_S", 0.01)
    pump = Pump(lambda: engine(processor), send)
    moving = asyncio.create_task(pump._move_batches(engine(processor)))
    async with asyncio.timeout(20):
        await processor.told.wait()
        pump._stopping.set()
        await moving
    pump._kafka.shutdown()


async def test_chores_are_done_between_batches_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = Endless(3)
    await moved(processor, monkeypatch)
    assert processor.done.count("look") >= 3
    assert processor.done.count("batch") > 3


async def test_all_batches_are_polled_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    processor = Endless(2)
    await moved(processor, monkeypatch)
    assert processor.polled == {"kafka_0"}


async def test_a_batch_that_cannot_be_folded_yet_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting(Endless):
        def fold(self, batch: Batch) -> list[Any]:
            if self.done.count("rewind") < 2:
                raise Retriable("the registry does not answer")
            return super().fold(batch)

    processor = Waiting(2)
    await moved(processor, monkeypatch)
    assert processor.done.count("rewind") == 2
    assert processor.done.index("batch") > 1
