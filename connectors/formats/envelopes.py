"""Messages of any bytes laid end to end in a document, each after what there is to say of it besides its value.

A piece is a line of JSON and the value; in a document its length stands before it. Invariant: what is unpacked is what
was packed, whatever the values hold. Used by kinds that read messages, and by formats of such.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from stockweave.errors import Rejected

LENGTH = struct.Struct(">I")


class Message(NamedTuple):
    """`about`: what was said of it; `value`: its bytes."""

    about: dict[str, Any]
    value: bytes


def packed(about: Mapping[str, Any], value: bytes) -> bytes:
    """A message, for a document of such."""
    said = orjson.dumps(about)
    return LENGTH.pack(len(said) + 1 + len(value)) + said + b"\n" + value


def unpacked(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces of a document.

    Raises:
        Rejected: it breaks off.
    """
    held = b""
    for block in blocks:
        held, at = held + block, 0
        while len(held) - at >= LENGTH.size:
            end = at + LENGTH.size + LENGTH.unpack_from(held, at)[0]
            if end > len(held):
                break
            yield held[at + LENGTH.size : end]
            at = end
        held = held[at:]
    if held:
        raise Rejected("not_messages", "it is no document of messages, or breaks off; have the feed read it again")


def message(piece: bytes) -> Message:
    """Of a piece.

    Raises:
        Rejected: it is none.
    """
    said, end, value = piece.partition(b"\n")
    try:
        about = orjson.loads(said)
    except orjson.JSONDecodeError:
        about = None
    if not end or not isinstance(about, dict):
        raise Rejected("not_messages", "it is no message as the feed puts them; have the feed read it again")
    return Message(about, value)
