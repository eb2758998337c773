"""Excel workbooks and OpenDocument sheets: the rows of one sheet, each field by the name of its column.

A workbook is read whole, since its texts lie apart from its rows, so it has an end. A row has no bytes of its own in
it: its cells stand for them, as a JSON list. Used by the kinds that read files and bodies.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Annotated, Literal

import orjson
import pyarrow as pa
from pydantic import Field
from python_calamine import CalamineError, CalamineSheet, CalamineWorkbook, WorksheetNotFound

from connectors.formats.delimited import check_columns
from connectors.formats.rows import ROWS_MAX, Rows
from connectors.options import Options
from stockweave.errors import Rejected

BOOK_BYTES_MAX = 64 << 20

Cell = str | int | float | bool | date | datetime | time | timedelta | None


class ExcelConfig(Options):
    """`sheet`: its name; the first one, where there is none. `header_row`: its number, as Excel counts."""

    format: Literal["excel"] = "excel"
    sheet: str | None = None
    header_row: Annotated[int, Field(ge=1, le=1_000)] = 1


def read(blocks: Iterable[bytes], config: ExcelConfig, paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a workbook; those without any cell are passed over.

    Raises:
        Rejected: it is too large, no workbook, or has no such sheet or column.
    """
    held = bytearray()
    for block in blocks:
        held += block
        if len(held) > BOOK_BYTES_MAX:
            raise Rejected("too_large", f"the workbook is larger than {BOOK_BYTES_MAX} bytes; ask for CSV")
    cells = _sheet(bytes(held), config).to_python(skip_empty_area=False)
    if len(cells) < config.header_row:
        raise Rejected("no_such_column", f"the sheet has {len(cells)} rows; mend header_row", "header_row")
    names = [_text(cell) or "" for cell in cells[config.header_row - 1]]
    check_columns(names, paths)
    rows = [row for row in cells[config.header_row :] if any(cell not in ("", None) for cell in row)]
    places = {path: names.index(path) for path in paths}
    head = orjson.dumps(names)
    for first in range(0, len(rows), ROWS_MAX):
        part = rows[first : first + ROWS_MAX]
        columns = {path: pa.array([_text(row[at]) or "" for row in part], pa.string()) for path, at in places.items()}
        originals = [orjson.dumps([_text(cell) for cell in row]) for row in part]
        yield Rows(
            columns, pa.array(range(first, first + len(part)), pa.int64()), originals.__getitem__, [], head, names
        )


def read_again(head: bytes, original: bytes, paths: Sequence[str]) -> Iterator[Rows]:
    """A row by what was kept of it.

    Raises:
        Rejected: its sheet has no such column.
    """
    names, cells = orjson.loads(head), orjson.loads(original)
    check_columns(names, paths)
    columns = {path: pa.array([cells[names.index(path)] or ""], pa.string()) for path in paths}
    yield Rows(columns, pa.array([0], pa.int64()), [original].__getitem__, [], head)


def _sheet(book: bytes, config: ExcelConfig) -> CalamineSheet:
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(book))
        if config.sheet is None:
            return workbook.get_sheet_by_index(0)
        return workbook.get_sheet_by_name(config.sheet)
    except WorksheetNotFound:
        shown = ", ".join(map(repr, workbook.sheet_names[:20]))
        raise Rejected("no_such_sheet", f"sheet {config.sheet!r} is not among {shown}; mend sheet", "sheet") from None
    except CalamineError as error:
        raise Rejected("malformed_workbook", f"it is no workbook ({error}); mend it at the supplier") from None


def _text(cell: Cell) -> str | None:
    """A cell as CSV would have it: a whole number without fraction, a time as RFC 3339 without zone."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    return cell.isoformat() if isinstance(cell, (date, time)) else str(cell).strip()
