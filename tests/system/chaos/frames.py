"""Finds Kafka's requests, or its answers, in a stream of bytes, whatever the pieces are that it comes in.

Each begins with its size. A request goes on with its kind, its version and a number that its answer bears as well.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

# The kinds that a transaction is made of: https://kafka.apache.org/protocol#protocol_api_keys
PRODUCE, ADD_OFFSETS_TO_TXN, END_TXN, TXN_OFFSET_COMMIT = 0, 25, 26, 28
INSIDE_A_COMMIT = {ADD_OFFSETS_TO_TXN: "AddOffsetsToTxn", TXN_OFFSET_COMMIT: "TxnOffsetCommit", END_TXN: "EndTxn"}
IN_A_TRANSACTION = {PRODUCE: "Produce"} | INSIDE_A_COMMIT

_SIZE = 4
_REQUEST = struct.Struct(">ihhi")
_ANSWER = struct.Struct(">ii")
NO_KIND = -1


class Frame(NamedTuple):
    """A request or an answer. `begin`: where it begins in the piece, below zero when it began in a former one."""

    kind: int
    correlation: int
    begin: int


class Frames:
    """One direction of one connection."""

    def __init__(self, *, of_requests: bool) -> None:
        self._head = _REQUEST if of_requests else _ANSWER
        self._begun = b""
        self._left = 0

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames whose heads are complete with this piece."""
        found: list[Frame] = []
        at = 0
        while at < len(piece):
            if self._left:
                step = min(self._left, len(piece) - at)
                self._left -= step
                at += step
                continue
            begin = at - len(self._begun)
            self._begun += piece[at : begin + self._head.size]
            at = begin + len(self._begun)
            if len(self._begun) == self._head.size:
                size, *rest = self._head.unpack(self._begun)
                found.append(Frame(rest[0] if len(rest) > 1 else NO_KIND, rest[-1], begin))
                self._left = size + _SIZE - self._head.size
                self._begun = b""
        return found
