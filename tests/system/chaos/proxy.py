"""A TCP proxy in front of the broker, in which the network goes wrong on purpose.

Kafka's clients learn the broker's address from the broker, so the broker advertises this proxy's port. Each connection
is known by the process that opened it, so that one worker alone may be cut off. Invariant: what passes, passes whole
and in order; a connection that lost bytes never works again.
"""

from __future__ import annotations

import asyncio
import enum
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.system.chaos.frames import Frame, Frames

PIECE_BYTES = 64 << 10
QUEUED_PIECES_MAX = 256  # of one direction of one connection: 16 MiB
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)
_END = b""


class Kind(enum.Enum):
    """What may be wrong with the network."""

    DELAY = enum.auto()  # it comes later
    CUT = enum.auto()  # connections are reset, and new ones refused
    SWALLOW = enum.auto()  # half-open: connections stay, and what is sent is gone; at its end they are reset
    HOLD = enum.auto()  # half-open: nothing passes; at its end all comes late, also of those who gave up meanwhile


class Way(enum.Enum):
    """The two directions."""

    TO_BROKER = enum.auto()
    TO_CLIENT = enum.auto()


@dataclass(eq=False)
class Trouble:
    """Something wrong with the network, as long as it is in force.

    `whom`: a process by name, None for all; `touched`: connections reset, or pieces that did not pass as ever.
    """

    kind: Kind
    whom: str | None = None
    ways: frozenset[Way] = frozenset(Way)
    delay_s: tuple[float, float] = (0.0, 0.0)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    touched: int = 0


@dataclass(eq=False)
class Trap:
    """Acts at the next request of certain kinds, once.

    Attributes:
        kinds: of requests.
        spring: called at the very moment.
        whom: the process that has to send it, None for any.
        forward_s: None: it is called before the request is forwarded; else so long after.
        holds: the connection stands still until `released`; otherwise nothing more passes, but its end.
        answered: the broker answered all the same, which the client never heard.
    """

    kinds: frozenset[int]
    spring: Callable[[], object]
    whom: str | None = None
    forward_s: float | None = None
    holds: bool = False
    answered: bool = False
    caught: Frame | None = None
    sprung: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Proxy:
    """Listens on loopback and forwards to a port there.

    Args:
        port: to listen on.
        upstream_port: where the broker listens.
        owner_of: the name of the process that a connection from a port belongs to, None where it is not known.
        rng: draws delays.
    """

    def __init__(
        self, port: int, upstream_port: int, owner_of: Callable[[int], str | None], rng: random.Random
    ) -> None:
        self.port = port
        self.upstream_port = upstream_port
        self.owner_of = owner_of
        self.connections: set[_Connection] = set()
        self.trap: Trap | None = None
        self._rng = rng
        self._troubles: list[Trouble] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._shut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def trouble(self, trouble: Trouble) -> AsyncIterator[None]:
        """Within the block the network is wrong in this way."""
        self._troubles.append(trouble)
        if trouble.kind is Kind.CUT:
            if trouble.whom is None:
                self._shut()
            for connection in [c for c in self.connections if c.is_of(trouble.whom)]:
                trouble.touched += 1
                connection.reset()
        try:
            yield
        finally:
            self._troubles.remove(trouble)
            if trouble.kind is Kind.SWALLOW:
                for connection in [c for c in self.connections if c.torn]:
                    connection.reset()
            if trouble.kind is Kind.CUT and trouble.whom is None:
                await self._listen()
            trouble.over.set()

    def delay_s(self, connection: _Connection, way: Way) -> float:
        """How long what comes now is to take."""
        total_s = 0.0
        for trouble in self._troubles:
            if trouble.kind is Kind.DELAY and way in trouble.ways and connection.is_of(trouble.whom):
                trouble.touched += 1
                total_s += self._rng.uniform(*trouble.delay_s)
        return total_s

    def in_force(self, kind: Kind, connection: _Connection, way: Way) -> Trouble | None:
        """The first such trouble of a connection."""
        return next(
            (t for t in self._troubles if t.kind is kind and way in t.ways and connection.is_of(t.whom)),
            None,
        )

    def trap_for(self, frame: Frame, owner: Callable[[], str | None]) -> Trap | None:
        """The trap that a request walks into; it is taken away with that."""
        trap = self.trap
        if trap is None or frame.kind not in trap.kinds or (trap.whom is not None and trap.whom != owner()):
            return None
        self.trap = None
        trap.caught = frame
        return trap

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=PIECE_BYTES)

    def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = _Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            if (cut := self.in_force(Kind.CUT, connection, Way.TO_BROKER)) is not None:
                cut.touched += 1
            else:
                await connection.run()
        finally:
            self.connections.discard(connection)
            self._tasks.discard(task)
            connection.reset()


class _Connection:
    """A client's connection and its counterpart to the broker. `torn`: bytes of it are lost."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.torn = False
        self.trap: Trap | None = None
        self._client = reader, writer
        self._writers = [writer]
        self._port: int = writer.get_extra_info("peername")[1]
        self._owner: str | None = None

    @property
    def owner(self) -> str | None:
        """The process that opened it."""
        if self._owner is None:
            self._owner = self.proxy.owner_of(self._port)
        return self._owner

    def is_of(self, whom: str | None) -> bool:
        return whom is None or whom == self.owner

    async def run(self) -> None:
        """Forward until one of the two ends it."""
        try:
            broker = await asyncio.open_connection("127.0.0.1", self.proxy.upstream_port, limit=PIECE_BYTES)
        except OSError:
            return  # there is no broker at the moment, which the client learns by its reset
        self._writers.append(broker[1])
        lanes = [
            _Lane(self, Way.TO_BROKER, self._client[0], broker[1]),
            _Lane(self, Way.TO_CLIENT, broker[0], self._client[1]),
        ]
        taking = [asyncio.create_task(lane.take()) for lane in lanes]
        giving = [asyncio.create_task(lane.give()) for lane in lanes]
        try:
            await asyncio.wait(giving, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*taking, *giving):
                task.cancel()
            results = await asyncio.gather(*taking, *giving, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def reset(self) -> None:
        """End both sides with a reset, as a router does that forgot a connection."""
        for writer in self._writers:
            plug = writer.get_extra_info("socket")
            if plug is not None and plug.fileno() >= 0:
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            writer.transport.abort()


class _Lane:
    """One direction of one connection: `take` reads and stamps, `give` waits until it is time, and writes."""

    def __init__(
        self, connection: _Connection, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._connection = connection
        self._proxy = connection.proxy
        self._way = way
        self._reader = reader
        self._writer = writer
        self._frames = Frames(of_requests=way is Way.TO_BROKER)
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_PIECES_MAX)

    async def take(self) -> None:
        loop = asyncio.get_running_loop()
        at_s = 0.0
        while True:
            try:
                piece = await self._reader.read(PIECE_BYTES)
            except ConnectionError:
                piece = _END
            at_s = max(at_s, loop.time() + self._proxy.delay_s(self._connection, self._way))
            await self._queue.put((at_s, piece))
            if piece == _END:
                return

    async def give(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            at_s, piece = await self._queue.get()
            if at_s > loop.time():
                await asyncio.sleep(at_s - loop.time())
            while held := self._proxy.in_force(Kind.HOLD, self._connection, self._way):
                held.touched += 1
                await held.over.wait()
            if piece == _END:
                while gone := self._proxy.in_force(Kind.SWALLOW, self._connection, self._way):
                    await gone.over.wait()  # nobody hears that the other side has gone
                return
            if gone := self._proxy.in_force(Kind.SWALLOW, self._connection, self._way):
                gone.touched += 1
                self._connection.torn = True
            elif not await self._pass(piece):
                return

    async def _pass(self, piece: bytes) -> bool:
        """False when the other side is gone, and that is the end of it."""
        for frame in self._frames.feed(piece):
            if self._way is Way.TO_BROKER:
                trap = self._proxy.trap_for(frame, lambda: self._connection.owner)
                if trap is not None:
                    before, piece = piece[: max(0, frame.begin)], piece[max(0, frame.begin) :]
                    return await self._send(before) and await self._walk_into(trap, piece)
            elif (trap := self._connection.trap) is not None and trap.caught is not None:
                trap.answered |= frame.correlation == trap.caught.correlation
        return await self._send(piece)

    async def _walk_into(self, trap: Trap, piece: bytes) -> bool:
        """What to do with the rest of a piece, which the trapped request begins."""
        self._connection.trap = trap  # from now on the answer is withheld
        if trap.forward_s is not None:
            await self._write(piece)
            await asyncio.sleep(trap.forward_s)
        trap.spring()
        trap.sprung.set()
        return trap.forward_s is not None or await self._send(piece)

    async def _send(self, piece: bytes) -> bool:
        trap = self._connection.trap
        if trap is not None:
            if not trap.holds:
                return True  # it goes nowhere
            await trap.released.wait()
        return await self._write(piece)

    async def _write(self, piece: bytes) -> bool:
        try:
            self._writer.write(piece)
            await self._writer.drain()
        except ConnectionError:
            # A client that has gone is noticed on the other lane, behind what it sent last.
            return self._way is Way.TO_CLIENT
        return True
