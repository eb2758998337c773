"""What the fields of some rows look like: a tally of a sample of them, and what it comes to. Pure.

Invariant: a tally does not grow with the rows: of each batch some evenly spread ones are looked at. Values are kept of
fields that the mapping names alone, and three of each class. Used by `drift`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.formats.rows import Rows
from connectors.mapping.rules import Mapping, QuantityRule, Rule

BATCH_ROWS = 1_000  # looked at, of the rows that a format gives at once
TALLY_ROWS = 200_000  # looked at in all, until it is compared
NAMES_COUNTED_MAX = 2_000
NAME_CHARACTERS = 100
COLUMNS_MAX = 1_000
VALUES_MAX = 12
SAMPLE, SAMPLE_CHARACTERS = 3, 100
WORDS = ("kind", "location", "basis")  # fields of few values

EMPTY, WHOLE, DECIMAL, TIME, BOOLEAN, TEXT = "empty", "whole number", "decimal", "date-time", "boolean word", "text"
CLASSES = (EMPTY, WHOLE, DECIMAL, TIME, BOOLEAN, TEXT)
PATTERNS = (
    r"^$",
    r"^[+-]?[0-9]{1,30}$",
    r"^[+-]?[0-9]{1,30}[.,][0-9]{0,30}$",
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4})([T ].*)?$",
    r"^(?i:true|false|yes|no|ja|nein|oui|non|si|y|n|j)$",
)


NUMBER = r"^[+-]?[0-9]{1,30}(\.[0-9]{1,30})?$"


class FieldProfile(msgspec.Struct, kw_only=True):
    """Of one field. `shares`: of the classes; `median`, `low`, `high`: of its numbers, all but a hundredth at each end.

    `length`: of its texts, the median in characters. `values`: all that there were, None where they are many or not
    watched. `sample`: originals, cut.
    """

    shares: dict[str, float] = {}
    median: float | None = None
    low: float | None = None
    high: float | None = None
    length: float | None = None
    values: list[str] | None = None
    sample: list[str] = []

    @property
    def main(self) -> str:
        """Its most frequent class."""
        return max(self.shares, key=lambda name: self.shares[name], default=EMPTY)


class _Watched(NamedTuple):
    """How a path is looked at: `units`: the marks of its numbers; `is_words`: few values."""

    units: QuantityRule | None
    is_words: bool


class FieldTally:
    """Of one field, as it is read."""

    def __init__(self, watched: _Watched) -> None:
        self._watched = watched
        self.counts: Counter[str] = Counter()
        self.values: Counter[str] = Counter()
        self._numbers: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._samples: dict[str, list[str]] = {}

    def add(self, column: pa.StringArray) -> None:
        """Of some rows."""
        texts = pc.fill_null(pc.utf8_trim_whitespace(column), "")
        plain = texts if self._watched.units is None else _without_marks(texts, self._watched.units)
        hits = [pc.match_substring_regex(plain, pattern).to_numpy(zero_copy_only=False) for pattern in PATTERNS]
        classes = np.select(hits, range(len(PATTERNS)), len(PATTERNS))
        for code, count in zip(*np.unique(classes, return_counts=True), strict=True):
            name = CLASSES[code]
            self.counts[name] += int(count)
            held = self._samples.setdefault(name, [])
            if name != EMPTY and len(held) < SAMPLE:
                of_class = texts.filter(pa.array(classes == code)).slice(0, BATCH_ROWS)
                more = (text[:SAMPLE_CHARACTERS] for text in of_class.unique().to_pylist())
                held += [text for text in more if text not in held][: SAMPLE - len(held)]
        if self._watched.units is not None:
            numbers = plain.filter(pc.match_substring_regex(plain, NUMBER))
            self._numbers.append(pc.utf8_ltrim(numbers, "+").cast(pa.float64()).to_numpy())
        self._lengths.append(pc.utf8_length(texts.filter(pa.array(classes != 0))).to_numpy())
        if self._watched.is_words and len(self.values) <= VALUES_MAX:
            for each in pc.value_counts(texts.filter(pa.array(classes != 0))).to_pylist():
                self.values[each["values"][:SAMPLE_CHARACTERS]] += each["counts"]

    @property
    def numbers(self) -> np.ndarray:
        """All that were looked at."""
        return np.concatenate([np.empty(0), *self._numbers])

    def sample(self, name: str) -> list[str]:
        """Originals of a class."""
        return self._samples.get(name, [])

    def profile(self) -> FieldProfile:
        """What it comes to."""
        count, numbers = sum(self.counts.values()), self.numbers
        lengths = np.concatenate([np.empty(0), *self._lengths])
        found = FieldProfile(shares={name: part / count for name, part in self.counts.items()})
        if len(numbers):
            found.low, found.median, found.high = map(float, np.quantile(numbers, (0.01, 0.5, 0.99)))
        if len(lengths):
            found.length = float(np.median(lengths))
        if self._watched.is_words and len(self.values) <= VALUES_MAX:
            found.values = sorted(self.values)
        found.sample = self.sample(found.main)
        return found


class Tally:
    """Of the rows of a feed. `rows`: that were looked at; `seen`: those of which the names of all fields are known."""

    def __init__(self, mapping: Mapping) -> None:
        self._watched = _watched(mapping)
        self.rows = 0
        self.seen = 0
        self.fields = {path: FieldTally(watched) for path, watched in self._watched.items()}
        self.names: Counter[str] = Counter()
        self.columns: list[str] | None = None

    def add(self, rows: Rows) -> None:
        """Look at some of them."""
        if rows.names is not None:
            self.seen += rows.names.rows
            is_room = len(self.names) < NAMES_COUNTED_MAX
            for name, count in rows.names.counts.items():
                if is_room or name[:NAME_CHARACTERS] in self.names:
                    self.names[name[:NAME_CHARACTERS]] += count
        if rows.header is not None:
            self.columns = cut(rows.header)
        count = len(rows.numbers)
        if not count or self.rows >= TALLY_ROWS:
            return
        step = -(-count // BATCH_ROWS)
        places = pa.array(np.arange(0, count, step))
        self.rows += len(places)
        for path, tally in self.fields.items():
            column = rows.columns[path]
            tally.add(column if step == 1 else column.take(places))


def cut(names: Sequence[str]) -> list[str]:
    """Names of columns, so many and so long as they are kept."""
    return [name[:NAME_CHARACTERS] for name in names[:COLUMNS_MAX]]


def _watched(mapping: Mapping) -> dict[str, _Watched]:
    """By path; of one that several rules name, the first quantity says how its numbers are written."""
    rules: dict[str, list[tuple[str, Rule]]] = {}
    for name, rule in mapping.rules():
        if rule.path is not None:
            rules.setdefault(rule.path, []).append((name, rule))
    return {
        path: _Watched(_units(of_path), any(name in WORDS for name, _ in of_path)) for path, of_path in rules.items()
    }


def _units(rules: list[tuple[str, Rule]]) -> QuantityRule | None:
    return next((rule for _, rule in rules if isinstance(rule, QuantityRule)), None)


def _without_marks(texts: pa.StringArray, rule: QuantityRule) -> pa.StringArray:
    plain = pc.replace_substring(texts, rule.thousands, "") if rule.thousands else texts
    return pc.replace_substring(plain, ",", ".") if rule.decimal == "," else plain
