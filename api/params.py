"""Reads query parameters: each is checked here and nowhere else, and what is wrong names the parameter.

An unknown parameter is refused too: a misspelt filter would otherwise answer with everything. Called by the routes.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from multidict import MultiMapping

from schemas.keys import id_problem
from stockweave.errors import Rejected

SKUS_MAX = 1_000
LIMIT_DEFAULT, LIMIT_MAX = 100, 1_000
DIGITS_MAX = 18  # of a whole number; it fits 64 bits then

T = TypeVar("T")


class Params:
    """The query of one request.

    Args:
        query: as received, decoded.
        allowed: the names that this route knows.

    Raises:
        Rejected: here and in every method, for a parameter that cannot be used.
    """

    def __init__(self, query: MultiMapping[str], allowed: Iterable[str]) -> None:
        self._query = query
        for name in query:
            if name not in allowed:
                known = ", ".join(allowed) or "none"
                raise Rejected("unknown_parameter", f"{name!r} is not a parameter here; known are: {known}", name)

    def skus(self) -> list[str] | None:
        """All values of `sku`, split at commas, normalised, each once, in order; None if there is none."""
        if "sku" not in self._query:
            return None
        asked = [part for value in self._query.getall("sku") for part in value.split(",")]
        skus = list(dict.fromkeys(identifier("sku", part) for part in asked))
        if len(skus) > SKUS_MAX:
            raise Rejected("too_many", f"sku names {len(skus)} SKUs; ask for at most {SKUS_MAX} at a time", "sku")
        return skus

    def refuse(self, names: Iterable[str], because: str) -> None:
        """Raise Rejected if any of `names` is given, for they mean nothing beside `because`."""
        for name in names:
            if name in self._query:
                raise Rejected("invalid_parameter", f"{name} is for the list; leave out either it or {because}", name)

    def identifier(self, name: str) -> str | None:
        """An id, normalised."""
        return self._one(name, lambda text: identifier(name, text))

    def flag(self, name: str) -> bool | None:
        """`true` or `false`."""

        def read(text: str) -> bool:
            if text not in ("true", "false"):
                raise Rejected("invalid_parameter", f"{name} is {text!r}; send true or false", name)
            return text == "true"

        return self._one(name, read)

    def time_ms(self, name: str) -> int | None:
        """RFC 3339 or milliseconds since the epoch."""
        return self._one(name, lambda text: _time_ms(name, text))

    def limit(self) -> int:
        """How many items a page has at most."""
        return self._one("limit", _limit) or LIMIT_DEFAULT

    def min_offset(self, partitions: int) -> dict[int, int]:
        """The parts of the token that a write returned, as offset by partition; empty if there is none."""
        return self._one("min_offset", lambda text: _token(text, partitions)) or {}

    def text(self, name: str) -> str | None:
        """As it is."""
        return self._one(name, lambda text: text)

    def _one(self, name: str, read: Callable[[str], T]) -> T | None:
        values = self._query.getall(name, [])
        if len(values) > 1:
            raise Rejected("invalid_parameter", f"{name} is given {len(values)} times; send it once", name)
        return read(values[0]) if values else None


def identifier(name: str, text: str) -> str:
    """An id in its composed form (NFC).

    Raises:
        Rejected: it cannot be one.
    """
    text = unicodedata.normalize("NFC", text)
    if problem := id_problem(text):
        raise Rejected("invalid_id", f"{name} {problem}", name)
    return text


def _limit(text: str) -> int:
    number = _whole(text)
    if number is None or not 1 <= number <= LIMIT_MAX:
        raise Rejected("invalid_parameter", f"limit is {text!r}; send a whole number from 1 to {LIMIT_MAX}", "limit")
    return number


def _token(text: str, partitions: int) -> dict[int, int]:
    offsets: dict[int, int] = {}
    for part in text.split(","):
        left, _, right = part.partition("-")
        partition, offset = _whole(left), _whole(right)
        if partition is None or offset is None or partition >= partitions:
            raise Rejected(
                "invalid_token",
                f"min_offset has {part!r}; send the token that a write returned, as it was: partition-offset, with "
                f"partitions from 0 to {partitions - 1}, and commas between several",
                "min_offset",
            )
        offsets[partition] = max(offset, offsets.get(partition, 0))
    return offsets


def _time_ms(name: str, text: str) -> int:
    number = _whole(text)
    if number is not None:
        return number
    try:
        at = datetime.fromisoformat(text.upper())
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Rejected(
            "invalid_parameter",
            f"{name} is {text!r}; send RFC 3339 with its zone, such as 2026-01-31T09:30:00Z (a + is written %2B), "
            "or milliseconds since the epoch",
            name,
        )
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else None
