"""Which generation of the rows the view serves, and which comes next; on the event loop, but for the record's thread.

The next one is followed beside the served one from the moment that it is a candidate. It is served once the record says
that it is live, it is read to the end that the topic then had, and it is at or past the served one in every partition;
all partitions change in one turn of the event loop. So nobody sees a gap, a mix, or a number that goes back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from api.generation import GenerationView
from schemas.admin import Deployed
from state.generations import Directions, GenerationsFollower, delete_other_folders
from stockweave.errors import Fatal, Retriable

log = structlog.get_logger(__name__)

RECORD_WAIT_S = 0.2
LOOK_EVERY_S = 0.1
LOOK_OFTEN_S = 0.02  # while readers wait for the next generation
RETRY_S = 1.0


class Succession:
    """Runs the generations.

    Args:
        served: to begin with.
        open_generation: of a topic; blocks, and is called off the event loop.
        records: closed by its thread.
        look_up: the record as it stands now; blocks likewise.
        folder: of all generations' stores, one folder each.
    """

    def __init__(
        self,
        served: GenerationView,
        open_generation: Callable[[Deployed], GenerationView],
        records: GenerationsFollower,
        look_up: Callable[[], Directions],
        folder: Path,
    ) -> None:
        self.served = served
        self.next: GenerationView | None = None
        self.next_is_live = False
        self.on_served: Callable[[], None] = lambda: None
        self.on_look: Callable[[], None] = lambda: None
        self._open_generation = open_generation
        self._records = records
        self._look_up = look_up
        self._folder = folder
        self._stopping = threading.Event()
        self._told: Directions | None = None
        self._unheeded = False
        self._goal: dict[int, int] | None = None  # the next one's ends, asked when it was live already
        self._running: dict[GenerationView, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._swept = False

    async def run(self) -> None:
        """Run the served generation and its successors until `stop`.

        Raises:
            Fatal: the served one can no longer be followed, and no other is live; or the live one can't be.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="record")
        loop = asyncio.get_running_loop()
        heeding = asyncio.ensure_future(loop.run_in_executor(thread, self._heed, loop))
        self._start(self.served)
        try:
            while not self._stopping.is_set():
                awaited = {heeding, *self._running.values()}
                wait_s = LOOK_OFTEN_S if self.next is not None and self.next_is_live else LOOK_EVERY_S
                await asyncio.wait(awaited, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if heeding.done() or self._stopping.is_set():
                    break
                try:
                    await self._step()
                except Retriable as why:
                    log.info("succession_waits", why=str(why))
                    await asyncio.sleep(RETRY_S)
        finally:
            self.stop()
            await asyncio.wait({heeding, *self._running.values(), *self._retiring})
            thread.shutdown()
        for task in (heeding, *self._running.values(), *self._retiring):
            task.result()

    def stop(self) -> None:
        """Let `run` end."""
        self._stopping.set()
        for generation in self._running:
            generation.stop()

    def close(self) -> None:
        """Close the stores; after `run` has ended."""
        self.served.close()
        if self.next is not None:
            self.next.close()

    def _heed(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    directions = self._records.poll(RECORD_WAIT_S)
                except Retriable as why:
                    log.info("succession_waits", why=str(why))
                    self._stopping.wait(RETRY_S)
                    continue
                if directions is not None:
                    loop.call_soon_threadsafe(self._tell, directions)
        finally:
            self._records.close()

    def _tell(self, directions: Directions) -> None:
        self._told, self._unheeded = directions, True

    def _start(self, generation: GenerationView) -> None:
        self._running[generation] = asyncio.create_task(generation.run())

    async def _step(self) -> None:
        await self._mourn()
        if self._told is not None and self._unheeded:
            await self._turn(self._told)
        if self.next is not None and self.next_is_live and await self._is_due(self.next):
            self._serve(self.next)
        if not self._swept and self._told is not None and self.served.caught_up and not self._retiring:
            kept = {g.topic.generation for g in (self.served, self.next) if g is not None}
            await asyncio.to_thread(delete_other_folders, self._folder, kept)
            self._swept = True
        self.on_look()

    async def _mourn(self) -> None:
        """See to what ended by itself."""
        for retired in self._retiring:
            if retired.done():
                retired.result()
        for generation, task in list(self._running.items()):
            if not task.done():
                continue
            if generation is self.next and not self.next_is_live:
                log.warning("candidate_given_up", number=generation.topic.number, why=str(task.exception()))
                await self._drop()
            elif generation is self.served:
                await self._survive(task)
                del self._running[generation]  # it stays as it is until the next one can be served
            else:
                task.result()

    async def _survive(self, task: asyncio.Task[None]) -> None:
        """Raise what ended the served one, unless another is live."""
        try:
            directions = await asyncio.to_thread(self._look_up)
        except Retriable:
            directions = None
        if directions is None or directions.live.name == self.served.topic.name:
            task.result()
            raise Fatal(f"topic {self.served.topic.name} is no longer followed, and it is live; restart")
        log.warning("served_generation_ended", number=self.served.topic.number, why=str(task.exception()))
        self._tell(directions)

    async def _turn(self, directions: Directions) -> None:
        """Follow what the record asks for beside the served one, and nothing else."""
        live = directions.live.name != self.served.topic.name
        if not live and directions.live != self.served.topic:
            raise Fatal(f"topic {directions.live.name} was created anew; restart, and the view is read from it")
        wanted = directions.live if live else directions.candidate
        if self.next is not None and self.next.topic != wanted:
            await self._drop()
        if self.next is None and wanted is not None:
            if self._retiring:
                await asyncio.wait(self._retiring)  # its folder may be the one that is being deleted
            try:
                self.next = await asyncio.to_thread(self._open_generation, wanted)
            except Fatal as why:
                if live:
                    raise
                log.warning("candidate_given_up", number=wanted.number, why=str(why))
            else:
                log.info("generation_followed_beside", number=wanted.number, live=live)
                self._start(self.next)
        self.next_is_live, self._goal, self._unheeded = live, None, False
        if self.next is not None:
            self.next.unhurried = not live

    async def _is_due(self, successor: GenerationView) -> bool:
        """Whether the successor can be served without anybody's seeing a gap or an older number."""
        if not successor.caught_up:
            return False
        if self._goal is None:
            self._goal = await successor.ask()
        return all(
            new.mark.next_offset >= self._goal[new.number] and new.is_past(old.next_offsets())
            for old, new in zip(self.served.partitions, successor.partitions, strict=True)
        )

    def _serve(self, successor: GenerationView) -> None:
        former, self.served, self.next, self.next_is_live = self.served, successor, None, False
        self.on_served()
        log.info("generation_served", number=successor.topic.number, generation=successor.topic.generation)
        self._retire(former)
        self._unheeded = True  # the record may name a candidate besides

    def _retire(self, generation: GenerationView) -> None:
        async def retire(running: asyncio.Task[None] | None) -> None:
            generation.stop()
            if running is not None:
                await asyncio.wait({running})
            await generation.unread()
            await asyncio.to_thread(generation.delete)

        task = asyncio.create_task(retire(self._running.pop(generation, None)))
        self._retiring.add(task)
        task.add_done_callback(self._retired)

    def _retired(self, task: asyncio.Task[None]) -> None:
        if task.exception() is None:
            self._retiring.discard(task)  # a failure is found by `run`

    async def _drop(self) -> None:
        if self.next is not None:
            self._retire(self.next)
            self.next = None
            await asyncio.wait(self._retiring)
