"""Reads what a supplier wrote, one text at a time: ids, words, quantities, times; or `Rejected` says what is wrong.

Each distinct text of a batch is read once (`mapper`), so these may take their time and say exactly what they mean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from connectors.mapping.rules import QuantityRule, TextRule, TimeRule
from inventory.stock import QUANTITY_MAX
from schemas.keys import id_problem
from stockweave.errors import Rejected

OBSERVED_AT_MIN_MS = 946_684_800_000  # 2000-01-01; what is before it was given in another unit
OBSERVED_AT_MAX_MS = 253_402_300_799_999  # the end of the year 9999
SHOWN_MAX = 60  # characters of what the supplier wrote, in what is said of it

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


def text(rule: TextRule) -> Callable[[str], str]:
    """Reads an id: NFC, without the spaces around it."""

    def read(given: str) -> str:
        found = given if given.isascii() else unicodedata.normalize("NFC", given)
        found = found.upper() if rule.upper else found
        if problem := id_problem(found):
            raise Rejected("invalid_id", f"{_shown(given)} {problem}")
        return found

    return read


def choice(allowed: tuple[str, ...]) -> Callable[[str], str]:
    """Reads one of several words."""

    def read(given: str) -> str:
        if given not in allowed:
            raise Rejected("unknown_value", f"{_shown(given)} is none of {', '.join(allowed)}; name it in values")
        return given

    return read


def quantity(rule: QuantityRule) -> Callable[[str], int]:
    """Reads whole units, in packs or one by one."""

    def read(given: str) -> int:
        plain = given.replace(rule.thousands, "") if rule.thousands else given
        plain = plain.replace(",", ".") if rule.decimal == "," else plain
        if not _NUMBER.fullmatch(plain):
            raise Rejected("not_a_number", f"{_shown(given)} is not a number; name what it means in values")
        counted = Decimal(plain) * rule.pack
        if counted != int(counted) and rule.fraction == "reject":
            raise Rejected("not_whole", f"{_shown(given)} is {counted} units; set fraction: down to leave the rest out")
        return units(int(counted))

    return read


def units(given: int) -> int:
    """Whole units as they are."""
    if abs(given) > QUANTITY_MAX:
        raise Rejected("out_of_range", f"{given} is beyond {QUANTITY_MAX} units; mend it where it comes from")
    return given


def moment(rule: TimeRule) -> Callable[[str], int]:
    """Reads a time, in milliseconds since the epoch."""
    zone = ZoneInfo(rule.zone)

    def read(given: str) -> int:
        at = _unix(rule, given) if rule.format in ("unix", "unix_ms") else _dated(rule, given, zone)
        if not OBSERVED_AT_MIN_MS <= at <= OBSERVED_AT_MAX_MS:
            raise Rejected("out_of_range", f"{_shown(given)} is not between the years 2000 and 9999; mend its format")
        return at

    return read


def _unix(rule: TimeRule, given: str) -> int:
    if rule.format == "unix_ms" and _WHOLE.fullmatch(given):
        return int(given)
    if rule.format == "unix" and _NUMBER.fullmatch(given):
        return int(Decimal(given) * 1_000)
    raise Rejected("invalid_time", f"{_shown(given)} is not {rule.format}; mend format")


def _dated(rule: TimeRule, given: str, zone: ZoneInfo) -> int:
    try:
        if rule.format == "rfc3339":
            at = datetime.fromisoformat(given.upper())
        else:
            at = datetime.strptime(given, rule.format)
        aware = at.replace(tzinfo=zone) if at.tzinfo is None else at
        return (aware - _EPOCH) // _MS
    except (ValueError, OverflowError):
        raise Rejected("invalid_time", f"{_shown(given)} is no time of the format {rule.format}; mend format") from None


def _shown(given: str) -> str:
    return repr(given if len(given) <= SHOWN_MAX else given[:SHOWN_MAX] + "...")
