"""The headers of a dead letter, whoever writes it: Kafka Connect's names (KIP-298), so that its tools read them.

And what inventory.dead-letters-settled says of one: its id, and what was done with it.
"""

from __future__ import annotations

import time

import orjson

ERRORS = "__connect.errors."
TOPIC, PARTITION, OFFSET = f"{ERRORS}topic", f"{ERRORS}partition", f"{ERRORS}offset"  # of the record, if it was one
STAGE = f"{ERRORS}stage"  # who refused it
REASON = f"{ERRORS}exception.class.name"  # a stable code
DETAIL = f"{ERRORS}exception.message"  # what is wrong, and the remedy
DETAIL_CHARACTERS_MAX = 500
TRUNCATED = "stockweave.truncated"  # how much of the original is left out, where some is
NOTE = "stockweave.note"  # of a record that is no letter

RETRIED, DROPPED = "retried", "dropped"  # what is done with a letter, so that it is shown no more


def letter_id(partition: int, offset: int) -> str:
    """By where it is in inventory.dead-letters."""
    return f"{partition}-{offset}"


def place_of(letter: bytes) -> tuple[int, int] | None:
    """Partition and offset of an id; None if it is none."""
    partition, _, offset = letter.partition(b"-")
    return (int(partition), int(offset)) if partition.isdigit() and offset.isdigit() else None


def settled_note(did: str) -> bytes:
    """The note, under the letter's id."""
    return orjson.dumps({"did": did, "at_ms": time.time_ns() // 1_000_000})
