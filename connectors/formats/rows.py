"""What a format makes of bytes: some rows at a time, as the columns that a mapping asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from stockweave.errors import Rejected

NAMED_ROWS = 250  # of those at a time, whose fields are all looked at
ROWS_MAX = 65_536  # at a time: a few megabytes of columns


class Broken(NamedTuple):
    """A row that the format cannot take apart. `number`: among all rows, from 0."""

    number: int
    original: bytes
    detail: str


class Names(NamedTuple):
    """Which fields there are in some of the rows, mapped or not. `rows`: looked at; `counts`: that have it, by name.

    A name is written as a path to it would be.
    """

    rows: int
    counts: Mapping[str, int]


class Rows(NamedTuple):
    """Rows that follow one another.

    `columns`: by path, null where there is no such thing, a text without characters where it is empty. `numbers`: of
    each among all rows, from 0. `original`: the bytes of a row by its place here, for the dead letters. `broken`: rows
    between them that could not be taken apart. `head`: what has to stand before a row's bytes so that they can be read
    by themselves. `header`: all columns of a table, where it names them. `names`: of rows that name their fields one by
    one; None where the format does not tell.
    """

    columns: Mapping[str, pa.StringArray]
    numbers: pa.Int64Array
    original: Callable[[int], bytes]
    broken: list[Broken]
    head: bytes = b""
    header: Sequence[str] | None = None
    names: Names | None = None


class NoSuchColumn(Rejected):
    """A table without a column that the mapping names, or with several of that name. `there`: all that it has."""

    def __init__(self, message: str, path: str, there: Sequence[str]) -> None:
        super().__init__("no_such_column", message, path)
        self.there = list(there)
