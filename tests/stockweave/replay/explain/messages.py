"""Messages as a log gives them, without Kafka, and the history that they make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

from confluent_kafka import Message

from inventory.policies import Policies, Rules
from inventory.stock import Limits, StockUpdate
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.rows import decode_row
from stockweave.replay.explain.account import Account, accounts
from stockweave.replay.explain.explain import Beside, Explained
from stockweave.replay.explain.history import History

CODEC = Codec("StockUpdate", FileRegistry())
SKU = "sku-1"
LOGGED_MS = 1_700_000_900_000
PLAIN = Policies().rules(SKU)


class Logged(NamedTuple):
    """What the fold asks of a message."""

    at: int
    body: bytes

    def key(self) -> bytes:
        return SKU.encode()

    def value(self) -> bytes:
        return self.body

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 2, LOGGED_MS + self.at


def logged(updates: Iterable[StockUpdate | bytes], first: int = 0) -> list[Message]:
    made = [
        Logged(offset, one if isinstance(one, bytes) else CODEC.encode(dict(one)))
        for offset, one in enumerate(updates, first)
    ]
    return cast("list[Message]", made)


def history_of(
    updates: Iterable[StockUpdate | bytes],
    *,
    seed: bytes | None = None,
    refused_max: int = 10,
    limits: Limits | None = None,
    first: int = 0,
) -> History:
    history = History(CODEC, limits or Limits(), SKU.encode(), 0, 1, seed, refused_max)
    history.take(logged(updates, first))
    return history


def explained(
    history: History,
    *,
    at_ms: int = LOGGED_MS,
    as_of_ms: int | None = None,
    start: int = 0,
    end: int = 20,
    checkpoint: str | None = None,
    beside: Beside | None = None,
    first_ms: int | None = None,
    rules: Rules = PLAIN,
) -> Explained:
    row = None if history.row is None else decode_row(history.row)
    return Explained(
        SKU, "inventory.updates", 3, start, end, as_of_ms, at_ms, rules, checkpoint, row, history, beside, first_ms
    )


def accounts_of(found: Explained) -> list[Account]:
    return [] if found.row is None or found.answer is None else accounts(found.row, found.history, found.answer)
