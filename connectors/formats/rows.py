"""What a format makes of bytes: some rows at a time, as the columns that a mapping asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import pyarrow as pa

ROWS_MAX = 65_536  # at a time: a few megabytes of columns


class Broken(NamedTuple):
    """A row that the format cannot take apart. `number`: among all rows, from 0."""

    number: int
    original: bytes
    detail: str


class Rows(NamedTuple):
    """Rows that follow one another.

    `columns`: by path, null where nothing was found. `numbers`: of each among all rows, from 0. `original`: the bytes
    of a row by its place here, for the dead letters. `broken`: rows between them that could not be taken apart. `head`:
    what has to stand before a row's bytes so that they can be read by themselves.
    """

    columns: Mapping[str, pa.StringArray]
    numbers: pa.Int64Array
    original: Callable[[int], bytes]
    broken: list[Broken]
    head: bytes = b""
