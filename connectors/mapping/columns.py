"""One field of many rows at once: what was found, read by a rule, and which rows cannot be used for it.

A batch names few words, times and quantities many times over, so each distinct text is read once and its rows share
what came of it. Used by `mapper`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from connectors.mapping.rules import Rule
from stockweave.errors import Rejected

Found = Mapping[str, pa.StringArray]
"""What lies under each path, one entry a row; null where there is no such thing, a text without characters if empty."""


class Fault(NamedTuple):
    """Why a row cannot be used. `detail` begins with the field; `sku`: one that the map does not know, whole."""

    reason: str
    field: str
    detail: str
    sku: str | None = None


class Column(NamedTuple):
    """A field of all rows, null where there is none, and the faults of rows by their place."""

    values: pa.Array
    faults: dict[int, Fault]


class Reader:
    """Reads one field.

    Args:
        field: its name, for what is said of it.
        rule: where it is found.
        read: a text as the field's value; raises `Rejected`.
        kind: of the values.
        required: whether a row without it is at fault.
        number: what a number means that the mapping itself gives; read as a text unless given.
        are_values: the quick yes that texts are values as they are.

    Raises:
        Rejected: the rule's own constant, default or values cannot be read.
    """

    def __init__(
        self, field: str, rule: Rule, read: Callable[[str], Any], kind: pa.DataType, required: bool = True,
        number: Callable[[int], Any] | None = None, are_values: Callable[[Collection[str]], bool] | None = None,
    ) -> None:  # fmt: skip
        self._field, self._rule, self._read, self._kind, self._required = field, rule, read, kind, required
        self._number = number
        self._constant = None if rule.constant is None else self._meant(rule.constant)
        self._default = None if rule.default is None else self._meant(rule.default)
        self._words = {word: self._meant(meant) for word, meant in rule.values.items()}
        self._are_values = None if rule.values else are_values

    def column(self, found: Found, count: int) -> Column:
        """The field of `count` rows."""
        if self._rule.path is None:
            return Column(pa.repeat(pa.scalar(self._constant, self._kind), count), {})
        of_path = found[self._rule.path]
        trimmed = pc.utf8_trim_whitespace(of_path)
        there = pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed).dictionary_encode()
        texts, faults = there.dictionary.to_pylist(), {}
        if self._are_values is not None and self._are_values(texts):
            values = there.dictionary
        else:
            read, wrong = self._all(texts)
            values = pa.array(read, self._kind)
            faults = _by_row(wrong, there.indices)
        column = values.take(there.indices)
        if column.null_count > len(faults):
            column = self._without_gaps(column, of_path, faults)
        return Column(column, faults)

    def _all(self, texts: list[str]) -> tuple[list[Any], dict[int, Fault]]:
        read: list[Any] = []
        wrong: dict[int, Fault] = {}
        for i, text in enumerate(texts):
            try:
                read.append(self._one(text))
            except Rejected as why:
                wrong[i] = Fault(why.reason, self._field, f"{self._field}: {why}")
                read.append(None)
        return read, wrong

    def _one(self, text: str) -> Any:  # noqa: ANN401 - of the field's kind
        if text in self._words:
            return self._words[text]
        if self._rule.otherwise == "reject":
            raise Rejected("unknown_value", f"{text[:60]!r} is not among its values; name there what it means")
        return self._read(text)

    def _without_gaps(self, column: pa.Array, of_path: pa.StringArray, faults: dict[int, Fault]) -> pa.Array:
        """Rows where nothing was found have the default, if it is meant for that, or are at fault."""
        rule = self._rule
        if self._default is not None:
            meant = pc.is_null(column)
            if rule.default_when == "empty":
                meant = pc.and_(meant, pc.is_valid(of_path))
            if faults:
                meant = pc.and_(meant, pa.array([row not in faults for row in range(len(column))]))
            column = pc.if_else(meant, pa.scalar(self._default, self._kind), column)
        if self._required and column.null_count > len(faults):
            rows = [row for row in pc.indices_nonzero(pc.is_null(column)).to_pylist() if row not in faults]
            fault = Fault("missing", self._field, f"{self._field}: {missing(rule)}")
            faults.update(dict.fromkeys(rows, fault))
        return column

    def _meant(self, given: str | int) -> Any:  # noqa: ANN401 - of the field's kind
        """What the mapping itself says."""
        try:
            if isinstance(given, int) and self._number is not None:
                return self._number(given)
            return self._read(str(given))
        except Rejected as why:
            raise Rejected(why.reason, f"{self._field}: {why}", self._field) from why


def missing(rule: Rule) -> str:
    """What is said of a row where nothing is found, and its remedy."""
    if rule.default is None:
        return f"nothing is found at {rule.path}; mend the path, or give a default"
    return (
        f"there is no {rule.path} at all, and default is for what is empty; mend the path, or set default_when: absent "
        "if its absence means that"
    )


def _by_row(wrong: Mapping[int, Fault], indices: pa.Array) -> dict[int, Fault]:
    """The faults of distinct texts as those of rows."""
    if not wrong:
        return {}
    at_fault = pc.is_in(indices, value_set=pa.array(list(wrong), indices.type))
    rows = pc.indices_nonzero(at_fault)
    return {row: wrong[i] for row, i in zip(rows.to_pylist(), indices.take(rows).to_pylist(), strict=True)}
