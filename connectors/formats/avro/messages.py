"""Messages of one Avro record each, by a schema that they name or that is known; a row is `$.value` and what is beside.

Invariant: a message that cannot be read is a broken row, with its bytes, and takes no other with it. A row's own bytes
are a line of JSON, of what there is besides, and the message's value. Called by `reader`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from connectors.formats.avro.config import AvroConfig
from connectors.formats.avro.records import ROWS_AT_ONCE, Record, Unread, rows
from connectors.formats.avro.schemas import Schemas
from connectors.formats.envelopes import Message, message, unpacked
from connectors.formats.rows import Rows
from schemas.codec import FRAME
from stockweave.errors import Rejected


def read(blocks: Iterable[bytes], config: AvroConfig, paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a document of messages.

    Raises:
        Retriable: a schema cannot be had now.
        Rejected: it is no such document, or the schema of all messages is of no use.
    """
    schemas, pieces, first = Schemas(config), unpacked(blocks), 0
    while some := list(islice(pieces, ROWS_AT_ONCE)):
        yield _rows(some, first, schemas, paths)
        first += len(some)


def read_again(original: bytes, config: AvroConfig, paths: Sequence[str]) -> Iterator[Rows]:
    """A row by its own bytes; raises as `read`."""
    yield _rows([original], 0, Schemas(config), paths)


def _rows(pieces: Sequence[bytes], first: int, schemas: Schemas, paths: Sequence[str]) -> Rows:
    messages = [message(piece) for piece in pieces]
    by_frame: dict[bytes, list[int]] = {}
    for place, each in enumerate(messages):
        by_frame.setdefault(each.value[: schemas.frame_bytes], []).append(place)
    found: dict[int, Record | Unread] = {}
    for frame, places in by_frame.items():
        found |= zip(places, _decoded(frame, [messages[place].value for place in places], schemas), strict=True)
    records = [_beside(found[place], each) for place, each in enumerate(messages)]
    return rows(records, range(first, first + len(pieces)), paths, pieces.__getitem__)


def _decoded(frame: bytes, values: Sequence[bytes], schemas: Schemas) -> Sequence[Record | Unread]:
    """Of one schema. `frame`: that all begin with."""
    if not schemas.frame_bytes:
        return schemas.only().decode(values)
    if len(frame) < FRAME.size or frame[0] != 0:
        detail = f"it begins with {frame.hex()!r}, not with 00 and the id of its schema; has it none? Name schema_file"
        return [Unread(detail)] * len(values)
    schema_id: int = FRAME.unpack(b"\0" + frame[1:])[1]
    try:
        reads = schemas.of(schema_id)
    except Rejected as why:
        return [Unread(f"schema id {schema_id}: {why}")] * len(values)
    return reads.decode([value[FRAME.size :] for value in values])


def _beside(record: Record | Unread, of: Message) -> Record | Unread:
    return record if isinstance(record, Unread) else {**of.about, "value": record}
