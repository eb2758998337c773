"""CSV and its kin, of any size: blocks of whole records go through Arrow's parser, in memory that does not grow.

Invariant: every record is a row or is broken, and either has the bytes that it was read from, but for its line ends. A
block ends where a record does: after a line feed with an even number of quotes before it. Bytes that are not of the
encoding are carried as lone surrogates, which no text has, up to the record that they are in. Used by the kinds that
read files and bodies.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Annotated, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from connectors.formats.rows import Broken, NoSuchColumn, Rows
from connectors.options import Options
from stockweave.errors import Rejected

BLOCK_BYTES = 1 << 20
RECORD_BYTES_MAX = 1 << 20
COLUMNS_SHOWN_MAX = 20
ESCAPED, PASSED = "surrogateescape", "surrogatepass"  # how Python carries a byte that is none, and writes it as UTF-8
FIRST_COLUMN = "column1"  # of rows without a header: column1, column2, ...


class DelimitedConfig(Options):
    """How the file is written.

    `header`: whether its first record names the columns; `columns`: their names, where it does not. Without either they
    are `column1`, `column2` and so on.
    """

    format: Literal["csv"] = "csv"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quote: Literal['"', "'", ""] = '"'
    encoding: str = "utf-8"
    header: bool = True
    columns: list[str] = Field(default=[])

    @field_validator("encoding")
    @classmethod
    def _is_encoding(cls, given: str) -> str:
        try:
            return codecs.lookup(given).name
        except LookupError:
            raise PydanticCustomError("encoding", "is no encoding; send a name such as utf-8 or cp1252") from None


def read(blocks: Iterable[bytes], config: DelimitedConfig, paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a file, some at a time.

    Args:
        blocks: its bytes, in pieces of any size.
        config: how it is written.
        paths: names of columns.

    Raises:
        Rejected: a column is not there, a record is too long, or the header is not of the encoding.
    """
    names = list(config.columns)
    number, head = 0, b""
    for block in _whole_records(_as_utf8(blocks, config.encoding), config.quote.encode()):
        rest = block
        if not names:
            first, rest = _first_record(block, config.quote.encode())
            if config.header and (fault := _undecodable([first], config.encoding)):
                raise Rejected("invalid_encoding", f"of the header, {fault[0]}")
            cells = _cells(first, config)
            names = cells if config.header else [f"column{n}" for n in range(1, len(cells) + 1)]
            rest = rest if config.header else block
            head = first.decode().encode(config.encoding) + b"\n" if config.header else b""
            check_columns(names, paths)
        if rest.strip(b"\n"):
            rows = _rows(rest, config, names, paths, number)
            number += len(rows.numbers) + len(rows.broken)
            yield rows._replace(head=head, header=names if config.header else None)
    if config.header and not names:
        raise Rejected("empty", "it is empty: not even the header is there; fetch it again, or set header: false")


def check_columns(names: Sequence[str], paths: Sequence[str]) -> None:
    """Raises `Rejected` for a path that names no column, or several."""
    for path in paths:
        if names.count(path) != 1:
            there = "more than once" if path in names else "not"
            shown = ", ".join(map(repr, names[:COLUMNS_SHOWN_MAX])) or "those of its first line, which is empty"
            remedy = "mend the mapping" if len(names) > 1 else "mend the mapping, or delimiter"
            raise NoSuchColumn(f"column {path!r} is {there} among {shown}; {remedy}", path, names)


def _as_utf8(blocks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The same in UTF-8, with line feeds alone, and without the mark that may stand before it."""
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(ESCAPED), translate=True)
    is_first, before = True, 0
    for block in chain(filter(None, blocks), (b"",)):
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:  # where a character has several bytes, nobody knows where the next begins
            at = before - (len(error.object) - len(block)) + error.start  # what was held of the block before is in it
            detail = f"byte {at}, {error.object[error.start]:#04x}, is not {encoding}; name the encoding that it is in"
            raise Rejected("invalid_encoding", detail) from error
        before += len(block)
        if is_first and text:
            text, is_first = text.removeprefix("\ufeff"), False
        if text:
            yield text.encode(errors=PASSED)


def _whole_records(blocks: Iterable[bytes], quote: bytes) -> Iterator[bytes]:
    """Blocks that end where a record ends."""
    held = bytearray()
    for block in blocks:
        held += block
        if len(held) < BLOCK_BYTES:
            continue
        end = _last_end(held, quote)
        if not end and len(held) > BLOCK_BYTES + RECORD_BYTES_MAX:
            detail = (
                f"a record is longer than {RECORD_BYTES_MAX} bytes; a quote may be missing, or quote is not {quote!r}"
            )
            raise Rejected("record_too_long", detail)
        if end:
            yield bytes(held[:end])
            del held[:end]
    if held:
        yield bytes(held)


def _last_end(data: bytearray, quote: bytes) -> int:
    """Where the last record ends that is there whole; 0 if none is."""
    end = data.rfind(b"\n") + 1
    if not quote:
        return end
    quotes = data.count(quote, 0, end)
    while end and quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(quote, before, end)
        end = before
    return end


def _records(block: bytes, quote: bytes) -> list[bytes]:
    """The records of a block, without the empty ones."""
    lines = block.split(b"\n")
    if not quote or quote not in block:
        return list(filter(None, lines))
    records: list[bytes] = []
    open_lines: list[bytes] = []
    quotes = 0
    for line in lines:
        open_lines.append(line)
        quotes += line.count(quote)
        if quotes % 2 == 0:
            record = b"\n".join(open_lines)
            if record:
                records.append(record)
            open_lines, quotes = [], 0
    return records + ([b"\n".join(open_lines)] if open_lines else [])


def _first_record(block: bytes, quote: bytes) -> tuple[bytes, bytes]:
    [first, *_] = _records(block, quote) or [b""]
    return first, block[block.find(first) + len(first) :].lstrip(b"\n")


def _cells(record: bytes, config: DelimitedConfig) -> list[str]:
    reader = csv.reader(
        io.StringIO(record.decode(errors="replace")),
        delimiter=config.delimiter,
        quotechar=config.quote or None,
        quoting=csv.QUOTE_MINIMAL if config.quote else csv.QUOTE_NONE,
    )
    return [cell.strip() for cell in next(iter(reader), [])]


def _rows(block: bytes, config: DelimitedConfig, names: Sequence[str], paths: Sequence[str], first: int) -> Rows:
    wrong: list[arrow_csv.InvalidRow] = []

    def invalid(row: arrow_csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    records = _records(block, config.quote.encode())
    undecodable = {} if _is_text(block) else _undecodable(records, config.encoding)
    if undecodable:
        too_many = config.delimiter.encode() * len(names)  # columns: so it is skipped, and counted
        block = b"\n".join(too_many if n in undecodable else record for n, record in enumerate(records))
    table = arrow_csv.read_csv(
        pa.BufferReader(block),
        arrow_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=list(names)),
        arrow_csv.ParseOptions(
            delimiter=config.delimiter,
            quote_char=config.quote or False,
            newlines_in_values=bool(config.quote) and config.quote.encode() in block,
            invalid_row_handler=invalid,
        ),
        arrow_csv.ConvertOptions(
            include_columns=list(paths), column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    ).combine_chunks()

    def written(place: int) -> bytes:
        if config.encoding == "utf-8" and place not in undecodable:
            return records[place]
        return records[place].decode(errors=PASSED).encode(config.encoding, ESCAPED)

    at_fault = {cast("int", row.number) - 1: row for row in wrong}
    places = pa.array([n for n in range(len(table) + len(wrong)) if n not in at_fault], pa.int64())
    broken = [
        Broken(
            first + place,
            written(place),
            undecodable.get(place)
            or f"it has {row.actual_columns} columns, and {row.expected_columns} are named; mend delimiter or quote",
        )
        for place, row in at_fault.items()
    ]
    columns = {path: _one(table.column(path)) for path in paths}
    return Rows(columns, pc.add(places, first), lambda row: written(places[row].as_py()), broken)


def _is_text(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _undecodable(records: Sequence[bytes], encoding: str) -> dict[int, str]:
    """Of each record that has bytes of another encoding, its place and what is wrong."""
    found = {}
    for place, record in enumerate(records):
        if not _is_text(record):
            text = record.decode(errors=PASSED)
            at = next(n for n, character in enumerate(text) if "\udc80" <= character <= "\udcff")
            byte = ord(text[at]) - 0xDC00
            found[place] = (
                f"byte {byte:#04x} after {text[max(0, at - 20) : at]!r} is not {encoding}; mend it, or encoding"
            )
    return found


def _one(column: pa.ChunkedArray) -> pa.StringArray:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], pa.string())])
