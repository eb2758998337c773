"""The proxy that faults go through, against a plain echo server."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from stockweave.ports import free_port
from tests.system.chaos.frames import END_TXN, PRODUCE, Frame, Frames
from tests.system.chaos.proxy import Kind, Proxy, Trap, Trouble, Way

SOON_S = 0.2
Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo(NamedTuple):
    """An echo server behind a proxy; all that it received."""

    proxy: Proxy
    received: bytearray

    async def connect(self) -> Link:
        return await asyncio.open_connection("127.0.0.1", self.proxy.port)


@asynccontextmanager
async def echo(owner: str | None = None) -> AsyncIterator[Echo]:
    received, writers = bytearray(), list[asyncio.StreamWriter]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while piece := await reader.read(1 << 16):
                received.extend(piece)
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            pass  # a reset is what some of these tests are about
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Proxy(free_port(), port, lambda _: owner, random.Random(1)) as proxy:
            yield Echo(proxy, received)
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


def request(kind: int, correlation: int, body: bytes = b"") -> bytes:
    return struct.pack(">ihhi", 8 + len(body), kind, 0, correlation) + body


async def said(link: Link, size: int, within_s: float = 5.0) -> bytes:
    return await asyncio.wait_for(link[0].readexactly(size), within_s)


async def is_silent(link: Link, for_s: float = SOON_S) -> bool:
    try:
        await asyncio.wait_for(link[0].read(1), for_s)
    except TimeoutError:
        return True
    return False


async def is_reset(link: Link) -> bool:
    try:
        return await asyncio.wait_for(link[0].read(1), 5.0) == b""
    except ConnectionResetError:
        return True


async def test_what_passes_passes_whole_and_in_order() -> None:
    body = random.Random(2).randbytes(3_000_000)
    async with echo() as server:
        link = await server.connect()
        link[1].write(body)
        assert await said(link, len(body)) == body


async def test_a_delay_holds_each_piece_up_and_keeps_their_order() -> None:
    async with echo() as server:
        link = await server.connect()
        trouble = Trouble(Kind.DELAY, ways=frozenset({Way.TO_BROKER}), delay_s=(0.1, 0.3))
        async with server.proxy.trouble(trouble):
            began_s = time.monotonic()
            for number in range(20):
                link[1].write(bytes([number]))
                await link[1].drain()
                await asyncio.sleep(0.005)
            assert await said(link, 20) == bytes(range(20))
            assert time.monotonic() - began_s >= 0.1


async def test_a_cut_resets_what_is_open_and_refuses_what_comes_until_it_is_over() -> None:
    async with echo() as server:
        link = await server.connect()
        link[1].write(b"x")
        assert await said(link, 1) == b"x"
        async with server.proxy.trouble(Trouble(Kind.CUT)):
            assert await is_reset(link)
            with pytest.raises(ConnectionRefusedError):
                await server.connect()
        again = await server.connect()
        again[1].write(b"y")
        assert await said(again, 1) == b"y"


async def test_a_cut_of_one_process_lets_the_others_be() -> None:
    async with echo(owner="worker-0") as server:
        link = await server.connect()
        link[1].write(b"x")
        assert await said(link, 1) == b"x"
        async with server.proxy.trouble(Trouble(Kind.CUT, "worker-1")):
            link[1].write(b"y")
            assert await said(link, 1) == b"y"
        async with server.proxy.trouble(Trouble(Kind.CUT, "worker-0")):
            assert await is_reset(link)
            assert await is_reset(await server.connect())


async def test_a_half_open_connection_stays_open_swallows_all_and_is_reset_in_the_end() -> None:
    async with echo() as server:
        link = await server.connect()
        async with server.proxy.trouble(Trouble(Kind.SWALLOW)):
            link[1].write(b"gone")
            assert await is_silent(link)
        assert await is_reset(link)
        assert server.received == b""


async def test_what_is_held_comes_late_even_from_one_who_has_hung_up() -> None:
    async with echo() as server:
        link, other = await server.connect(), await server.connect()
        async with server.proxy.trouble(Trouble(Kind.HOLD)):
            link[1].write(b"late")
            other[1].write(b"later")
            assert await is_silent(link)
            other[1].close()
            await other[1].wait_closed()
            assert server.received == b""
        assert await said(link, 4) == b"late"
        async with asyncio.timeout(5.0):
            while True:
                if sorted(server.received) == sorted(b"latelater"):
                    break
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("forward_s", [None, 0.0])
async def test_a_trap_springs_at_its_request_once_and_the_answer_is_never_heard(forward_s: float | None) -> None:
    sprung: list[float] = []
    trap = Trap(frozenset({END_TXN}), lambda: sprung.append(1), forward_s=forward_s)
    before, at, after = request(PRODUCE, 1, b"a" * 100), request(END_TXN, 2, b"b"), request(PRODUCE, 3)
    async with echo() as server:
        server.proxy.trap = trap
        link = await server.connect()
        link[1].write(before)
        assert await said(link, len(before)) == before
        link[1].write(at + after)
        assert await is_silent(link)
        assert len(sprung) == 1
        assert trap.caught is not None
        assert trap.caught[:2] == (END_TXN, 2)
        assert bytes(server.received) == before + (b"" if forward_s is None else at + after)
        other = await server.connect()
        other[1].write(at)
        assert await said(other, len(at)) == at


async def test_a_trap_that_holds_lets_the_request_through_when_it_is_released() -> None:
    trap = Trap(frozenset({END_TXN}), lambda: None, holds=True)
    at = request(END_TXN, 7)
    async with echo() as server:
        server.proxy.trap = trap
        link = await server.connect()
        link[1].write(at)
        await asyncio.wait_for(trap.sprung.wait(), 5.0)
        assert await is_silent(link)
        trap.released.set()
        assert await said(link, len(at)) == at


def test_requests_are_found_however_the_stream_is_cut() -> None:
    stream = request(PRODUCE, 1, b"x" * 50) + request(END_TXN, 2) + request(PRODUCE, 3, b"y")
    rng = random.Random(3)
    for _ in range(200):
        frames, found, at = Frames(of_requests=True), list[Frame](), 0
        while at < len(stream):
            size = rng.randint(1, 40)
            found += [f._replace(begin=f.begin + at) for f in frames.feed(stream[at : at + size])]
            at += size
        assert found == [Frame(PRODUCE, 1, 0), Frame(END_TXN, 2, 62), Frame(PRODUCE, 3, 74)]
