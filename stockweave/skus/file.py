"""Reads a CSV file of entries: whole and checked before anything is written. Used by `command`.

Columns are `supplier_sku`, `sku` and, unless one supplier is given for all, `supplier_id`; in any order, others are
passed over. Ids are read as a mapping reads them: in NFC, without the spaces around them.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from schemas.keys import id_problem, plain_ids
from stockweave.errors import Fatal, Rejected
from stockweave.skus.table import Known

FAULTS_MAX = 20  # that are told one by one
COLUMNS = ("supplier_id", "supplier_sku", "sku")


def read_file(path: Path, supplier: str | None, delimiter: str) -> Known:
    """What a file says.

    Args:
        path: in UTF-8, with a header.
        supplier: of all rows; None: each row says it.
        delimiter: between columns.

    Raises:
        Rejected: rows are at fault; with a line for each.
        Fatal: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return _Reading(supplier).read(lines, delimiter, path)
    except OSError as error:
        raise Fatal(f"{path} cannot be read: {error.strerror}; name a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise Rejected("invalid_file", f"{path} is no CSV file in UTF-8: {error}; nothing was written") from error


class _Reading:
    def __init__(self, supplier: str | None) -> None:
        self._supplier = supplier
        self._known: Known = {}
        self._faults: list[str] = []
        self._at_fault = 0

    def read(self, lines: Iterable[str], delimiter: str, path: Path) -> Known:
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(rows, [])]
        wanted = COLUMNS if self._supplier is None else COLUMNS[1:]
        if missing := [name for name in wanted if name not in header]:
            hint = "; or give --supplier" if missing == ["supplier_id"] else ""
            said = f"{path} has no column {', '.join(missing)} but {', '.join(header) or 'nothing'}; mend it{hint}"
            raise Rejected("invalid_file", said)
        places = [header.index(name) for name in wanted]
        for row in rows:
            if len(row) != len(header):
                if row:
                    self._fault(rows.line_num, f"it has {len(row)} columns, and the header {len(header)}")
                continue
            self._take([row[place] for place in places], rows.line_num)
        if self._at_fault:
            more = [f"and {self._at_fault - FAULTS_MAX} more"] if self._at_fault > FAULTS_MAX else []
            told = [f"{path}:{fault}" for fault in self._faults]
            head = f"{self._at_fault} rows have to be mended, nothing was written:"
            raise Rejected("invalid_file", "\n".join([head, *told, *more]))
        return self._known

    def _take(self, ids: list[str], line: int) -> None:
        if not plain_ids(ids):
            ids = [unicodedata.normalize("NFC", text).strip() for text in ids]
            for name, text in zip(COLUMNS[-len(ids) :], ids, strict=True):
                if problem := id_problem(text):
                    return self._fault(line, f"{name} {problem}")
        supplier = ids[0] if self._supplier is None else self._supplier
        supplier_sku, sku = ids[-2:]
        known = self._known.setdefault(supplier, {})
        if known.setdefault(supplier_sku, sku) != sku:
            self._fault(line, f"supplier_sku {supplier_sku} is there twice, and means two SKUs; leave one")
        return None

    def _fault(self, line: int, detail: str) -> None:
        self._at_fault += 1
        if len(self._faults) < FAULTS_MAX:
            self._faults.append(f"{line}: {detail}")
