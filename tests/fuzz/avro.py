"""Hostile messages and hostile schemas for the decoder, and the laws that hold for all of them.

Each kind is a function that checks some cases drawn from a seed, and says how many; a law that does not hold is an
`AssertionError`, and whatever else comes out of the code under test goes up as it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from confluent_kafka import Message
from fastavro.validation import validate

from api.answers import Answers, encode_json
from inventory.policies import DEFAULT_CHANNEL, Policies
from inventory.stock import Limits
from schemas.codec import FRAME, Codec, Record
from schemas.registry import FileRegistry, Schema
from schemas.rows import Position, decode_row
from schemas.topics import UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.errors import Rejected
from streams.batch import Batch, Folder, Part
from tests.fuzz.junk import NUMBERS, TEXTS, spoilt, spoilt_json, text, varint
from tests.schemas.test_codec import sample

REGISTRY = FileRegistry()
CODEC = Codec("StockUpdate", REGISTRY)
SCHEMA = REGISTRY.schema_of(CODEC.schema_id)
NAMES = [field["name"] for field in SCHEMA["fields"]]
FOREIGN_ID = 77
ANSWERS = Answers("g", "t", 1_800_000_000_000, 0, Policies(), DEFAULT_CHANNEL)

GOOD: tuple[bytes, ...] = tuple(
    CODEC.encode(record)
    for record in (
        sample(),
        sample(kind="DELTA", quantity=-3, order_ref="o-1"),
        sample(kind="WITHDRAWN", quantity=0),
        sample(sku="\u00e9-1", incoming=[{"expected_at": 1, "quantity": 2}] * 3, stale_after_ms=60_000),
        sample(incoming=[{"expected_at": 1_800_000_000_000, "quantity": 5}] * 150),
    )
)
BODIES = tuple(message[FRAME.size :] for message in GOOD)


def message(drawn: random.Random) -> bytes | None:
    """A message of inventory.updates: good, spoilt in its body or its frame, or no message at all."""
    whole = drawn.choice(GOOD)
    match drawn.randrange(12):
        case 0 | 1:
            return whole
        case 2:
            return None
        case 3:
            return drawn.randbytes(drawn.randint(0, 40))
        case 4:
            return spoilt(drawn, whole[: FRAME.size]) + whole[FRAME.size :]
        case 5:
            return FRAME.pack(0, drawn.choice((0, 7, 9, FOREIGN_ID, 99, 2**32 - 1))) + whole[FRAME.size :]
    return whole[: FRAME.size] + spoilt(drawn, whole[FRAME.size :], BODIES)


def in_words(decoded: Sequence[Record | Rejected]) -> list[object]:
    return [(d.reason, str(d)) if isinstance(d, Rejected) else d for d in decoded]


def bodies(drawn: random.Random, cases: int) -> int:
    """Messages of the packaged schema: by columns, by records, in a batch or alone, the answer is the same."""
    done = 0
    while done < cases:
        messages = [message(drawn) for _ in range(drawn.choice((1, 1, 2, 5, 20)))]
        done += len(messages)
        alone = [CODEC.decode([one])[0] for one in messages]
        assert in_words(CODEC.decode(messages)) == in_words(alone), messages
        for one in alone:
            assert isinstance(one, Rejected) or validate(one, SCHEMA), one
        for value, record in zip(messages, alone, strict=True):
            columns = CODEC.arrow([value])
            assert columns is None or columns.select(NAMES).to_pylist() == [record], value
    return done


class Foreign:
    """The packaged registry, and one more schema, which may be anything, under `FOREIGN_ID`."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema

    def id_of(self, name: str) -> int:
        return REGISTRY.id_of(name)

    def schema_of(self, schema_id: int) -> Schema:
        return cast("Schema", self._schema) if schema_id == FOREIGN_ID else REGISTRY.schema_of(schema_id)


def foreign_schema(drawn: random.Random) -> dict[str, Any]:
    """A StockUpdate of somebody else's making: fields more, fewer and other than ours, or no schema at all."""
    schema = deepcopy(SCHEMA)
    if drawn.randrange(2):
        added = {"name": "added", "type": spoilt_json(drawn, ["null", "long"])}
        schema["fields"].insert(drawn.randint(0, len(schema["fields"])), added)
    if drawn.randrange(2):
        changed = spoilt_json(drawn, schema)
        return changed if isinstance(changed, dict) else {"type": changed}  # as a registry's client gives it
    return schema


def value_of(drawn: random.Random, schema: Any, named: dict[str, Any], depth: int = 0) -> bytes:
    """Bytes that a schema describes, as far as it is one; some numbers in them are hostile."""
    kind = schema.get("type") if isinstance(schema, dict) else schema
    schema = schema if isinstance(schema, dict) else {}
    if isinstance(schema.get("name"), str):
        named[schema["name"]] = schema
    if depth > 40 or drawn.randrange(200) == 0:
        return varint(drawn.choice(NUMBERS))
    if isinstance(kind, list):
        branch = drawn.randrange(len(kind)) if kind else 0
        return varint(branch) + (value_of(drawn, kind[branch], named, depth + 1) if kind else b"")
    match kind:
        case "boolean" | "enum":
            return varint(drawn.choice((0, 0, 0, 1)))
        case "int" | "long":
            return varint(drawn.choice(NUMBERS))
        case "string" | "bytes":
            return text(drawn.choice(TEXTS) if drawn.randrange(30) == 0 else b"sku-1")
        case "float" | "double":
            return drawn.randbytes(4 if kind == "float" else 8)
        case "fixed":
            size = schema.get("size")
            return drawn.randbytes(size) if type(size) is int and 0 <= size < 1_000 else b""
        case "record" if isinstance(schema.get("fields"), list):
            types = [field.get("type") for field in schema["fields"] if isinstance(field, dict)]
            return b"".join(value_of(drawn, one, named, depth + 1) for one in types)
        case "array" | "map":
            entry = schema.get("items") if kind == "array" else {"type": "record", "fields": [{"type": "string"}]}
            count = drawn.choice((0, 1, 2))
            entries = b"".join(value_of(drawn, entry, named, depth + 1) for _ in range(count))
            block = varint(-count) + varint(len(entries)) if drawn.randrange(2) else varint(count)
            return (block + entries if count else b"") + b"\0"
        case str() if kind in named:
            return value_of(drawn, named[kind], named, depth + 1)
    return value_of(drawn, kind, named, depth + 1) if isinstance(kind, dict) else b""


def schemas(drawn: random.Random, cases: int) -> int:
    """Messages written with other schemas: each is a record of ours or rejected, in a batch as alone."""
    done = 0
    while done < cases:
        schema = foreign_schema(drawn)
        codec, frame = Codec("StockUpdate", Foreign(schema)), FRAME.pack(0, FOREIGN_ID)
        written = [frame + value_of(drawn, schema, {}) for _ in range(3)]
        written += [spoilt(drawn, one[:5_000]) if drawn.randrange(3) else frame + b"\x02" * 50_000 for one in written]
        messages = [*written, drawn.choice(GOOD)]
        drawn.shuffle(messages)
        done += len(messages)
        decoded = codec.decode(messages)
        assert in_words(decoded) == in_words([codec.decode([one])[0] for one in messages]), (schema, messages)
        for one in decoded:
            assert isinstance(one, Rejected) or validate(one, SCHEMA), (schema, one)
    return done


def fold(folder: Path) -> Callable[[random.Random, int], int]:
    """Batches through the fold into a store in `folder`: every message ends as one outcome, and rows can be read."""

    def run(drawn: random.Random, cases: int) -> int:
        store = PartitionStore(folder / "fold", Resources(1 << 20, 1 << 20), "g")
        try:
            return _fold(drawn, cases, Folder(CODEC, Limits(), 4), store)
        finally:
            store.close()

    return run


def _fold(drawn: random.Random, cases: int, folder: Folder, store: PartitionStore) -> int:
    position, done = Position({UPDATES.name: 0}, {}), 0
    while done < cases:
        values = [update(drawn) if drawn.randrange(3) else message(drawn) for _ in range(drawn.choice((1, 10, 200)))]
        messages = [
            Message(topic="t", partition=0, offset=done + i, key=drawn.choice((b"sku-1", b"\xff", None)), value=value)
            for i, value in enumerate(values)
        ]
        done += len(messages)
        if drawn.randrange(20) == 0:
            folder = Folder(Codec("StockUpdate", Foreign(foreign_schema(drawn))), Limits(), 4)
        [part] = folder.fold(Batch([Part(0, store, position, messages)], None))
        assert sum(part.outcomes) == len(messages)
        assert all(letter.reason and letter.message in messages for letter in part.dead_letters)
        position = part.position
        store.write(part.rows, done)
        for row in map(decode_row, part.rows.values()):
            assert encode_json(ANSWERS.row(row, ANSWERS.available(row), 0)), row
    assert position.events() == done
    return done


def update(drawn: random.Random) -> bytes:
    """A well-formed message with values of every size and sign."""

    def number() -> int:
        return drawn.choice(NUMBERS)

    def some() -> str:
        return drawn.choice(("sku-1", "\x1f", "\u00e9", " ", "a" * 200))

    return CODEC.encode(
        sample(
            sku="sku-1", supplier_id=some(), location_id=some(), update_id=some(), order_ref=some(), quantity=number(),
            kind=drawn.choice(("COUNT", "DELTA", "WITHDRAWN")), observed_at=number(), received_at=number(),
            incoming=[{"expected_at": number(), "quantity": number()}] * drawn.choice((0, 1, 100, 101)),
            stale_after_ms=number(),
        )
    )  # fmt: skip
