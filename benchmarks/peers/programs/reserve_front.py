"""Reservations with PostgreSQL or Redis behind an aiohttp front like ours: `reserve_front.py WAY PORT ADDRESS`.

Each way does what the retry of a reservation needs as well: the units, and a record of it under a key of the
caller's, change together. Started by `benchmarks.peers.reserve_peers`.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

import asyncpg
import orjson
import redis.asyncio
import uvloop
from aiohttp import web

CONNECTIONS = 32
TABLES = """
CREATE TABLE IF NOT EXISTS stock (sku text PRIMARY KEY, on_hand bigint NOT NULL, reserved bigint NOT NULL);
CREATE TABLE IF NOT EXISTS reservations (
    id text PRIMARY KEY, sku text NOT NULL, order_id text, quantity bigint NOT NULL, expires_at timestamptz NOT NULL
);
"""
RECORD = "INSERT INTO reservations VALUES ($1, $2, $3, $4, now() + interval '15 minutes') ON CONFLICT DO NOTHING"
RESERVE_LUA = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
local left = tonumber(redis.call('GET', KEYS[1]) or '0')
if left < tonumber(ARGV[1]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], 'order', ARGV[2], 'quantity', ARGV[1])
redis.call('EXPIRE', KEYS[2], 900)
return 1
"""

Reserve = Callable[[str, str, int, str], Awaitable[bool]]


async def lock(address: str) -> Reserve:
    """SELECT ... FOR UPDATE, then write."""
    pool = await _pool(address)

    async def reserve(key: str, sku: str, quantity: int, order_id: str) -> bool:
        async with pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(
                "SELECT on_hand - reserved AS free FROM stock WHERE sku = $1 FOR UPDATE", sku
            )
            if row is None or row["free"] < quantity:
                return False
            if await connection.execute(RECORD, key, sku, order_id, quantity) == "INSERT 0 1":
                await connection.execute("UPDATE stock SET reserved = reserved + $2 WHERE sku = $1", sku, quantity)
            return True

    return reserve


async def conditional(address: str) -> Reserve:
    """One UPDATE with its condition, and the record, as one statement."""
    pool = await _pool(address)
    statement = """
    WITH recorded AS (
        INSERT INTO reservations SELECT $1, $2, $3, $4, now() + interval '15 minutes'
        ON CONFLICT DO NOTHING RETURNING id
    )
    UPDATE stock SET reserved = reserved + $4
    WHERE sku = $2 AND on_hand - reserved >= $4 AND EXISTS (SELECT 1 FROM recorded) RETURNING sku
    """

    async def reserve(key: str, sku: str, quantity: int, order_id: str) -> bool:
        async with pool.acquire() as connection, connection.transaction():
            return await connection.fetchrow(statement, key, sku, order_id, quantity) is not None

    return reserve


async def lua(address: str) -> Reserve:
    """A script in Redis."""
    client = redis.asyncio.Redis.from_url(address, max_connections=CONNECTIONS * 2)
    script = client.register_script(RESERVE_LUA)

    async def reserve(key: str, sku: str, quantity: int, order_id: str) -> bool:
        return bool(await script(keys=[f"stock:{sku}", f"reservation:{key}"], args=[quantity, order_id]))

    return reserve


WAYS = {"lock": lock, "conditional": conditional, "lua": lua}


async def _pool(address: str) -> asyncpg.Pool:
    pool = await asyncpg.create_pool(address, min_size=CONNECTIONS, max_size=CONNECTIONS)
    async with pool.acquire() as connection:
        await connection.execute(TABLES)
    return pool


async def app(way: str, address: str) -> web.Application:
    """The front."""
    reserve = await WAYS[way](address)

    async def post(request: web.Request) -> web.Response:
        asked = orjson.loads(await request.read())
        key = request.headers["Idempotency-Key"]
        if await reserve(key, asked["sku"], asked["quantity"], asked["orderId"]):
            said = {"success": True, "reserved_quantity": asked["quantity"], "reservation_id": key}
            return web.Response(body=orjson.dumps(said), status=201, content_type="application/json")
        return web.Response(body=b'{"code":"SOLD_OUT"}', status=409, content_type="application/problem+json")

    front = web.Application()
    front.router.add_post("/api/v1/inventory/reserve", post)
    return front


async def main() -> None:
    """Serve until it is killed."""
    way, port, address = sys.argv[1:]
    runner = web.AppRunner(await app(way, address), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(port), backlog=1024).start()
    print("ready", flush=True)
    import asyncio

    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
