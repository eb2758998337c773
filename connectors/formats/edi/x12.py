"""X12's 846, Inventory Inquiry/Advice: a row is one QTY of a LIN loop.

A mapping names fields by the standard's own words: `LIN.VN`, `QTY`, `DTM.018`, `REF.IA`, `N1.WH`, `LIN03`. Used by
`reader`, with `interchanges`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from connectors.formats.edi import interchanges
from connectors.formats.edi.fields import Elements, Field, component, element, nearest, no_path, of_other, own, raw
from connectors.formats.edi.segments import Marks, Segment, checked, not_edi
from connectors.formats.edi.standard import Config, Encoding, Frame, Standard
from connectors.formats.rows import Rows

EXAMPLES = "LIN.VN, QTY, QTY.qualifier, DTM.018, REF.IA, N1.WH, BIA.date or LIN03"

_WORD = re.compile(r"(LIN|DTM|REF|N1)\.([A-Z0-9]{1,3})")
_TIME = re.compile(r"([0-9]{2})([0-9]{2})(?:([0-9]{2})([0-9]{0,2}))?")
_DATES = {"BIA.date": ("BIA", 4, 5), "GS.date": ("GS", 4, 5), "ISA.date": ("ISA", 9, 10)}

_HOURS = {"UT": 0, "GM": 0, "AS": -4, "AD": -3, "ES": -5, "ED": -4, "CS": -6, "CD": -5, "MS": -7, "MD": -6, "PS": -8,
          "PD": -7, "TS": -9, "TD": -8, "HS": -10, "HD": -9}  # fmt: skip
_HOURS |= {f"{hour:02}": hour if hour <= 12 else hour - 25 for hour in range(1, 25)}
_ZONES = {"AT": "America/Halifax", "ET": "America/New_York", "CT": "America/Chicago", "MT": "America/Denver",
          "PT": "America/Los_Angeles", "TT": "America/Anchorage", "HT": "Pacific/Honolulu"}  # fmt: skip
"""Time codes of the data element 623: ahead of UTC by hours, or of a zone whose summer time the date decides."""


class X12Config(Config):
    """X12's 846: a row is a quantity of an item.

    `quantities`: the qualifiers (QTY01) of those that are rows; all, where none is named. `tests`: whether interchanges
    that say that they are tests (ISA15) are read as others are. `encoding`: of the document.
    """

    format: Literal["x12"] = "x12"
    encoding: Encoding = "utf-8"


def read(blocks: Iterable[bytes], config: X12Config, paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a document of interchanges.

    Raises:
        Rejected: it is no X12, or what it holds has no end.
    """
    fields = {path: field(path) for path in paths}
    return interchanges.read(blocks, _standard(config.encoding), config, fields)


def field(path: str) -> Field:
    """Where a path leads to; raises `Rejected` if nowhere."""
    if path == "QTY":
        return own("QTY", lambda qty, _: element(qty, 2))
    if path == "QTY.qualifier":
        return own("QTY", _qualifier)
    if path == "QTY.unit":
        return own("QTY", lambda qty, marks: component(qty, 3, 1, marks))
    if path in _DATES:
        tag, day, hour = _DATES[path]
        return nearest(tag, lambda found, _: _moment(element(found, day), element(found, hour), ""))
    if told := _WORD.fullmatch(path):
        return _word(told[1], told[2])
    found = of_other(path, field, _qualifier) or raw(path, whole=True)
    if found is None:
        raise no_path(path, EXAMPLES)
    return found


def _qualifier(qty: Elements, _: Marks) -> str:
    return element(qty, 1)


def _word(tag: str, code: str) -> Field:
    """A segment's own words, by its qualifier."""
    match tag:
        case "LIN":
            return nearest(tag, lambda lin, _: _paired(lin, code))
        case "DTM":
            return nearest(tag, lambda dtm, _: _dated(dtm) if element(dtm, 1) == code else "")
        case "REF":
            return nearest(tag, lambda ref, _: element(ref, 2) or element(ref, 3) if element(ref, 1) == code else "")
        case _:
            return nearest(tag, lambda n1, _: element(n1, 4) or element(n1, 2) if element(n1, 1) == code else "")


def _paired(lin: Elements, code: str) -> str:
    """LIN02 says what LIN03 is, LIN04 what LIN05 is, and so on."""
    return next((element(lin, at + 1) for at in range(2, len(lin), 2) if lin[at] == code), "")


def _dated(dtm: Elements) -> str:
    """DTM02 to DTM04, or what DTM05 says that DTM06 is."""
    if day := element(dtm, 2):
        return _moment(day, element(dtm, 3), element(dtm, 4))
    text = element(dtm, 6)
    return _moment(text[:8], text[8:], element(dtm, 4)) if element(dtm, 5) in ("D8", "DT") else text


@lru_cache(maxsize=4_096)
def _moment(day: str, hour: str, code: str) -> str:
    """As RFC 3339, with an offset where the code tells one; what is none is left so that its reading says it."""
    day = "20" + day if len(day) == 6 else day
    if len(day) != 8 or not day.isdecimal():
        return day
    iso = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    if not hour:
        return iso
    told = _TIME.fullmatch(hour)
    if told is None:
        return f"{iso}T{hour}"
    iso += f"T{told[1]}:{told[2]}:{told[3] or '00'}" + (f".{told[4]}" if told[4] else "")
    if code in _HOURS:
        return f"{iso}{_HOURS[code]:+03}:00"
    if code not in _ZONES:
        return iso if code in ("", "LT") else iso + code
    try:
        return datetime.fromisoformat(iso).replace(tzinfo=ZoneInfo(_ZONES[code])).isoformat()
    except ValueError:
        return iso


def _parts(item: Sequence[Elements]) -> tuple[list[Elements], list[list[Elements]]]:
    """What all quantities of an item share, and what stands below each; its N1 loops come after all of them."""
    shared: list[Elements] = []
    quantities: list[list[Elements]] = []
    into, is_nested = shared, False
    for elements in item:
        tag = elements[0]
        if tag == "QTY":
            into = []
            quantities.append(into)
        elif tag == "N1" and not is_nested:
            into = shared
        is_nested = tag == "LS" or (is_nested and tag != "LE")
        into.append(elements)
    return shared, quantities


def _marks(head: bytes, _: Segment | None) -> Marks:
    """ISA has sixteen elements; the last is the mark of components, and after it stands the terminator."""
    at, count = 3, 1
    while count < 16 and (at := head.find(head[3:4], at + 1)) > 0:
        count += 1
    end = at + 3
    if at < 0 or len(head) < end:
        raise not_edi(head, [b"ISA of 16 elements"])
    return checked(Marks(chr(head[3]), chr(head[at + 1]), "", chr(head[end - 1])), head)


def _standard(encoding: str) -> Standard:
    return Standard(
        name="X12",
        openings=(b"ISA",),
        marks_of=_marks,
        interchange=Frame("ISA", "IEA", 13),
        group=Frame("GS", "GE", 6),
        message=Frame("ST", "SE", 2),
        type_of=lambda st, _: element(st, 1),
        type="846",
        tail=("CTT",),
        encoding_of=lambda _, __: encoding,
        is_test=lambda header: element(header, 15) == "T",
        parts=_parts,
        qualifier=_qualifier,
    )
