"""The stock rule for the Python peers, as one would write it for their tables: a row is a plain dict, kept as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import fastavro

FRAME_BYTES = 5
Row = dict[str, Any]
"""Source to [count as [at, id, quantity] or None, deltas as the same]."""


class Decoder:
    """Reads framed updates with the schema file."""

    def __init__(self, schema: Path) -> None:
        self._schema = fastavro.parse_schema(json.loads(schema.read_text("utf-8")))

    def __call__(self, value: bytes) -> dict[str, Any]:
        """One update."""
        stream = io.BytesIO(value)
        stream.seek(FRAME_BYTES)
        decoded: Any = fastavro.schemaless_reader(stream, self._schema, None)
        return dict(decoded)


def apply(row: Row, update: dict[str, Any]) -> bool:
    """Apply an update in place; whether it changed the row."""
    source = row.setdefault(f"{update['supplier_id']}/{update['location_id']}", [None, []])
    count, deltas = source
    at, entry = update["observed_at"], [update["observed_at"], update["update_id"], update["quantity"]]
    if update["kind"] == "DELTA":
        if (count is not None and at <= count[0]) or any(held[1] == entry[1] for held in deltas):
            return False
        deltas.append(entry)
        deltas.sort()
        return True
    if count is not None and entry[:2] <= count[:2]:
        return False
    source[0], source[1] = entry, [held for held in deltas if held[0] > at]
    return True
