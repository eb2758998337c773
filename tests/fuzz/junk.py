"""Bytes, numbers and JSON that programs trip over, drawn from a seed."""

from __future__ import annotations

import random
from typing import Any

NUMBERS = (0, 1, -1, 2, 3, 63, 64, 127, 128, 255, 300, 10**6, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**53, 10**15,
           2**62, -(2**62), 2**63 - 1, -(2**63))  # fmt: skip
TEXTS = (b"", b"a", b"sku-1", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"a\x00b", b"\x1f", b" a",
         "\u0301".encode(), "\U0001f600".encode(), b"x" * 129, b"y" * 3_000)  # fmt: skip
SCALARS: tuple[Any, ...] = (None, True, False, 0, -1, 1, 2**31, 2**70, -0.5, 1e400, "", "null", "long", "string", "a.b",
                            "\ud800", "x" * 5_000, [], {}, [None], [[]], ["null", "null"], {"type": None})  # fmt: skip


def varint(number: int) -> bytes:
    """An Avro long of 64 bits, of either sign."""
    left = ((number << 1) ^ (number >> 63)) & (2**64 - 1)
    out = bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)


def text(content: bytes) -> bytes:
    """An Avro string or bytes."""
    return varint(len(content)) + content


def spoilt(drawn: random.Random, body: bytes, others: tuple[bytes, ...] = ()) -> bytes:
    """The bytes with one to three changes of those that bad senders, bad disks and attackers make."""
    for _ in range(drawn.choice((1, 1, 1, 2, 3))):
        at = drawn.randrange(len(body) + 1)
        to = min(len(body), at + drawn.randint(0, 8))
        match drawn.randrange(10):
            case 0:
                body = body[:at]
            case 1:
                body = body[at:]
            case 2:
                body = body[:at] + drawn.randbytes(drawn.randint(1, 12)) + body[to:]
            case 3:
                body = body[:at] + varint(drawn.choice(NUMBERS)) + body[drawn.choice((at, at + 1, to)) :]
            case 4:
                body = body[:at] + text(drawn.choice(TEXTS)) + body[to:]
            case 5:
                body = body[:at] + b"\x80" * drawn.randint(1, 12) + drawn.choice((b"", b"\x00", b"\x01")) + body[at:]
            case 6:
                body = body[:at] + body[at:to] * drawn.choice((2, 3, 100, 2_000)) + body[to:]
            case 7 if others:
                other = drawn.choice(others)
                body = body[:at] + other[drawn.randrange(len(other) + 1) :]
            case 8:
                body = body[:at] + bytes([drawn.randrange(256)]) * drawn.choice((1, 9, 40, 5_000)) + body[to:]
            case _ if at < len(body):
                body = body[:at] + bytes([body[at] ^ 1 << drawn.randrange(8)]) + body[at + 1 :]
    return body[:100_000]


def spoilt_json(drawn: random.Random, whole: Any) -> Any:
    """The JSON value, copied, with one to three of its parts changed, taken out or moved."""
    for _ in range(drawn.choice((1, 1, 2, 3))):
        places = list(_places(whole, ()))
        place = drawn.choice(places)
        match drawn.randrange(6):
            case 0:
                changed = drawn.choice(SCALARS)
            case 1:
                changed = drawn.choice(NUMBERS)
            case 2:
                changed = _at(whole, drawn.choice(places))
            case 3:
                changed = _at(whole, place)
                for _ in range(drawn.choice((1, 3, 50))):
                    changed = {"type": "array", "items": changed}
            case 4:
                changed = [_at(whole, place), drawn.choice(SCALARS)]
            case _:
                changed = drawn.choice(HOSTILE_TYPES)
        whole = _put(whole, place, changed)
    return whole


HOSTILE_TYPES: tuple[Any, ...] = (
    {"type": "array", "items": "null"},
    {"type": "array", "items": "boolean"},
    {"type": "map", "values": "null"},
    {"type": "array", "items": {"type": "array", "items": "long"}},
    {"type": "array", "items": {"type": "record", "name": "Nothing", "fields": []}},
    {"type": "array", "items": {"type": "fixed", "name": "None", "size": 0}},
    {"type": "record", "name": "Deep", "fields": [{"name": "next", "type": ["null", "Deep"]}]},
    {"type": "record", "name": "Deeper", "fields": [{"name": "all", "type": {"type": "array", "items": "Deeper"}}]},
    ["null", "StockUpdate"], "stockweave.StockUpdate", "stockweave.Kind", "Incoming",
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "int", "logicalType": "date"},
    {"type": "string", "logicalType": "uuid"},
    {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
    {"type": "fixed", "name": "Large", "size": 2**40},
    {"type": "enum", "name": "Few", "symbols": ["A"]},
    {"type": "enum", "name": "stockweave.Kind", "symbols": ["DELTA", "COUNT", "LOST"]},
)  # fmt: skip


def _places(whole: Any, above: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    inner = whole.items() if isinstance(whole, dict) else enumerate(whole) if isinstance(whole, list) else ()
    return [above, *(place for key, part in inner for place in _places(part, (*above, key)))]


def _at(whole: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        whole = whole[key]
    return whole


def _put(whole: Any, place: tuple[Any, ...], changed: Any) -> Any:
    if not place:
        return changed
    copy: Any = dict(whole) if isinstance(whole, dict) else list(whole)
    copy[place[0]] = _put(copy[place[0]], place[1:], changed)
    return copy
