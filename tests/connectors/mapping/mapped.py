"""Rows as texts, mapped, for the tests here."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from connectors.mapping.mapper import Mapped, Mapper, Read
from connectors.mapping.rules import Mapping

NOW_MS = 1_790_000_000_000
READ = Read("1790000000000", NOW_MS - 1_000, NOW_MS)
SIMPLE: dict[str, Any] = {"version": 1, "sku": "code", "quantity": "stock"}


def columns(rows: list[dict[str, str | None]]) -> dict[str, pa.StringArray]:
    paths = {path: None for row in rows for path in row}
    return {path: pa.array([row.get(path) for row in rows], pa.string()) for path in paths}


def mapper(**fields: Any) -> Mapper:
    return Mapper(Mapping.model_validate(SIMPLE | fields), "acme", "stock")


def mapped(rows: list[dict[str, str | None]], first: int = 0, read: Read = READ, **fields: Any) -> Mapped:
    one = mapper(**fields)
    return one.map(
        {**dict.fromkeys(one.mapping.paths, pa.nulls(len(rows), pa.string())), **columns(rows)},
        pa.array(range(first, first + len(rows)), pa.int64()),
        read,
    )
