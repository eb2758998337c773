"""Generations of the stock rows, and the record that says which one is live.

Number 0 is the topic inventory.stock itself, number n is inventory.stock.g<n>, with the same partitions and settings.
The record is one JSON value under `KEY` in the compacted inventory.generations; while there is none, number 0 is live.
A rebuild writes it; workers, the API and every command follow it (`schemas.generation_log`, `state.generations`).
"""

from __future__ import annotations

import re

import msgspec

from schemas.topics import STOCK
from stockweave.errors import Fatal
from stockweave.settings import Settings

KEY = b"stock"


class Generation(msgspec.Struct, frozen=True):
    """One generation. `number`: 0 for the first; `topic`: where its rows and positions are, as deployed."""

    number: int
    topic: str


class Plan(msgspec.Struct, frozen=True):
    """How a candidate is made, so that whoever goes on with it goes on the same way.

    `begin`: what it is folded on from, `FACTS` (nothing), `PREVIOUS` (a copy of that generation) or the address of a
    checkpoint; `partitions`: those that begin so, None for all, while the others begin as copies of the live
    generation; `rules`: digest of the rules that fold it.
    """

    begin: str
    partitions: tuple[int, ...] | None
    rules: str


FACTS, PREVIOUS = "facts", "previous"


class Generations(msgspec.Struct, frozen=True):
    """Which generations there are.

    `live`: is folded into and read from; `candidate`: is being rebuilt by `plan`; `previous`: was live before, and is
    kept for a way back; `changed_at`: when this was decided, in ms since the epoch.
    """

    live: Generation
    candidate: Generation | None = None
    previous: Generation | None = None
    changed_at: int = 0
    plan: Plan | None = None

    def next_number(self) -> int:
        """A number that no generation named here has."""
        named = (self.live, self.candidate, self.previous)
        return 1 + max(generation.number for generation in named if generation is not None)


def name_of(number: int, settings: Settings) -> str:
    """The deployed name of a generation's topic."""
    return settings.topic(STOCK.name) + (f".g{number}" if number else "")


def number_of(topic: str, settings: Settings) -> int | None:
    """The generation that has this topic, None where it is no generation's."""
    found = re.fullmatch(re.escape(settings.topic(STOCK.name)) + r"(?:\.g([1-9]\d*))?", topic)
    return None if found is None else int(found[1] or 0)


def first(settings: Settings) -> Generations:
    """What holds while there is no record."""
    return Generations(Generation(0, name_of(0, settings)))


def encode(generations: Generations) -> bytes:
    """The record's value."""
    return msgspec.json.encode(generations)


def decode(value: bytes | None, settings: Settings) -> Generations:
    """The record of a value; a tombstone means that there is none.

    Raises:
        Fatal: it cannot be read, or names topics of another deployment.
    """
    if value is None:
        return first(settings)
    try:
        found = _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Fatal(
            f"the record {KEY.decode()!r} in inventory.generations cannot be read: {error}; write it again with the "
            "version of stockweave that wrote it, or mend it with a Kafka producer"
        ) from error
    for generation in (found.live, found.candidate, found.previous):
        if generation is not None and generation.topic != name_of(generation.number, settings):
            raise Fatal(
                f"the record in inventory.generations has generation {generation.number} in topic {generation.topic}, "
                f"and here that would be {name_of(generation.number, settings)}; is STOCKWEAVE_TOPIC_PREFIX right?"
            )
    return found


_decode = msgspec.json.Decoder(Generations).decode
