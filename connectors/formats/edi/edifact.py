"""EDIFACT's INVRPT, the inventory report, of D.96A and later: a row is one QTY of a LIN group.

A mapping names fields by the standard's own words: `LIN`, `PIA.SA`, `QTY`, `DTM.366`, `LOC.18`, `INV01`. Used by
`reader`, with `interchanges`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal

from connectors.formats.edi import interchanges
from connectors.formats.edi.fields import Elements, Field, component, element, nearest, no_path, of_other, own, raw
from connectors.formats.edi.segments import Marks, Segment, checked, not_edi
from connectors.formats.edi.standard import Config, Encoding, Frame, Standard
from connectors.formats.rows import Rows
from stockweave.errors import Rejected

EXAMPLES = "LIN, PIA.SA, QTY, QTY.qualifier, DTM.137, LOC.18, NAD.WH, RFF.ON, UNB.date or INV01"
ENCODINGS = {
    "UNOA": "latin-1",  # a part of it, as UNOB: more than that is meant by it
    "UNOB": "latin-1",
    "UNOC": "latin-1",
    "UNOD": "iso8859-2",
    "UNOE": "iso8859-5",
    "UNOF": "iso8859-7",
    "UNOG": "iso8859-3",
    "UNOH": "iso8859-4",
    "UNOI": "iso8859-6",
    "UNOJ": "iso8859-8",
    "UNOK": "iso8859-9",
    "UNOW": "utf-8",
    "UNOY": "utf-8",
}
LEVEL_A = Marks("+", ":", "?", "'")
LEVEL_B = Marks("\x1d", "\x1f", "", "\x1c")

_WORD = re.compile(r"(LIN|PIA|DTM|LOC|NAD|RFF)\.([A-Z0-9]{1,3})")
_DAY, _SHORT_DAY = "(?P<Y>[0-9]{4})(?P<M>[0-9]{2})(?P<D>[0-9]{2})", "(?P<Y>[0-9]{2})(?P<M>[0-9]{2})(?P<D>[0-9]{2})"
_MINUTE, _SECOND = "(?P<h>[0-9]{2})(?P<m>[0-9]{2})", "(?P<s>[0-9]{2})"
_OFFSET, _ZONE = "(?P<z>[+-][0-9]{4})", "(?P<z>UTC|GMT)"
_SHAPES = {
    code: re.compile(shape)
    for code, shape in {
        "2": "(?P<D>[0-9]{2})(?P<M>[0-9]{2})(?P<Y>[0-9]{2})",
        "3": "(?P<M>[0-9]{2})(?P<D>[0-9]{2})(?P<Y>[0-9]{2})",
        "4": "(?P<D>[0-9]{2})(?P<M>[0-9]{2})(?P<Y>[0-9]{4})",
        "101": _SHORT_DAY,
        "102": _DAY,
        "201": _SHORT_DAY + _MINUTE,
        "202": _SHORT_DAY + _MINUTE + _SECOND,
        "203": _DAY + _MINUTE,
        "204": _DAY + _MINUTE + _SECOND,
        "205": _DAY + _MINUTE + _OFFSET,
        "208": _DAY + _MINUTE + _SECOND + _OFFSET,
        "301": _SHORT_DAY + _MINUTE + _ZONE,
        "302": _SHORT_DAY + _MINUTE + _SECOND + _ZONE,
        "303": _DAY + _MINUTE + _ZONE,
        "304": _DAY + _MINUTE + _SECOND + _ZONE,
    }.items()
}
"""Of the data element 2379."""


class EdifactConfig(Config):
    """EDIFACT's INVRPT: a row is a quantity of an item.

    `quantities`: the qualifiers (6063) of those that are rows; all, where none is named. `tests`: whether interchanges
    that say that they are tests (UNB11) are read as others are. `encoding`: where it is another one than UNB says.
    """

    format: Literal["edifact"] = "edifact"
    encoding: Encoding | None = None


def read(blocks: Iterable[bytes], config: EdifactConfig, paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a document of interchanges.

    Raises:
        Rejected: it is no EDIFACT, or what it holds has no end.
    """
    fields = {path: field(path) for path in paths}
    return interchanges.read(blocks, _standard(config.encoding), config, fields)


def field(path: str) -> Field:
    """Where a path leads to; raises `Rejected` if nowhere."""
    match path:
        case "LIN":
            return nearest("LIN", lambda lin, marks: component(lin, 3, 1, marks))
        case "QTY":
            return own("QTY", _number)
        case "QTY.qualifier":
            return own("QTY", _qualifier)
        case "QTY.unit":
            return own("QTY", lambda qty, marks: component(qty, 1, 3, marks))
        case "UNB.date":
            return nearest("UNB", _sent_at)
    if told := _WORD.fullmatch(path):
        return _word(told[1], told[2])
    found = of_other(path, field, _qualifier) or raw(path, whole=False)
    if found is None:
        raise no_path(path, EXAMPLES)
    return found


def _qualifier(qty: Elements, marks: Marks) -> str:
    return component(qty, 1, 1, marks)


def _number(qty: Elements, marks: Marks) -> str:
    """With the decimal mark that UNA names as a point."""
    found = component(qty, 1, 2, marks)
    return found.replace(",", ".") if marks.decimal == "," else found


def _word(tag: str, code: str) -> Field:
    """A segment's own words, by its qualifier."""
    match tag:
        case "LIN":
            return nearest(tag, lambda lin, marks: _item_number(lin, range(3, 4), code, marks))
        case "PIA":
            return nearest(tag, lambda pia, marks: _item_number(pia, range(2, 7), code, marks))
        case "DTM":
            return nearest(tag, lambda dtm, marks: _dated(dtm, code, marks))
        case "LOC":
            return nearest(tag, lambda loc, marks: _of(loc, code, marks, (2, 1), (2, 4)))
        case "RFF":
            return nearest(
                tag, lambda rff, marks: component(rff, 1, 2, marks) if component(rff, 1, 1, marks) == code else ""
            )
        case _:
            return nearest(tag, lambda nad, marks: _of(nad, code, marks, (2, 1), (4, 1), (3, 1)))


def _item_number(elements: Elements, at: range, code: str, marks: Marks) -> str:
    """C212: a number, then what kind of number it is."""
    return next((component(elements, n, 1, marks) for n in at if component(elements, n, 2, marks) == code), "")


def _of(elements: Elements, code: str, marks: Marks, *places: tuple[int, int]) -> str:
    """The first of some parts that is there, of a segment with that qualifier."""
    if component(elements, 1, 1, marks) != code:
        return ""
    return next((found for at, part in places if (found := component(elements, at, part, marks))), "")


def _dated(dtm: Elements, code: str, marks: Marks) -> str:
    if component(dtm, 1, 1, marks) != code:
        return ""
    return _moment(component(dtm, 1, 2, marks), component(dtm, 1, 3, marks))


def _sent_at(unb: Elements, marks: Marks) -> str:
    day, minute = component(unb, 4, 1, marks), component(unb, 4, 2, marks)
    return _moment(day + minute, "203" if len(day) == 8 else "201")


@lru_cache(maxsize=4_096)
def _moment(text: str, shape: str) -> str:
    """As RFC 3339; what is not of its shape, or of one that we do not know, is left as it is."""
    told = _SHAPES[shape].fullmatch(text) if shape in _SHAPES else None
    if told is None:
        return text
    part = {"h": None, "s": "00", "z": ""} | told.groupdict()
    year, zone = str(part["Y"]), str(part["z"])
    iso = f"{year if len(year) == 4 else '20' + year}-{part['M']}-{part['D']}"
    if part["h"] is None:
        return iso
    zone = f"{zone[:3]}:{zone[3:]}" if zone.startswith(("+", "-")) else "Z" if zone else ""
    return f"{iso}T{part['h']}:{part['m']}:{part['s']}{zone}"


def _parts(item: Sequence[Elements]) -> tuple[list[Elements], list[list[Elements]]]:
    """What all quantities of an item share, and what stands below each.

    A quantity begins with QTY, from D.97A on with the INV before it. Below CPS there are only those of packages.
    """
    begins = next((elements[0] for elements in item if elements[0] in ("INV", "QTY")), "QTY")
    shared: list[Elements] = []
    quantities: list[list[Elements]] = []
    into, is_packing = shared, False
    for elements in item:
        tag = elements[0]
        if tag == begins and (tag == "INV" or not is_packing):
            into, is_packing = [], False
            quantities.append(into)
        elif tag == "QTY" and not is_packing and any(told[0] == "QTY" for told in into):
            into = [into[0]]  # several of one INV
            quantities.append(into)
        is_packing = is_packing or tag == "CPS"
        into.append(elements)
    return shared, quantities


def _marks(head: bytes, before: Segment | None) -> Marks:
    """By UNA, or else by how UNB goes on."""
    if head.startswith(b"UNA"):
        if len(head) < 9:
            raise not_edi(head, [b"UNA of 9 characters"])
        told = head[3:9].decode("latin-1")
        return checked(Marks(told[1], told[0], told[3].strip(), told[5], decimal=told[2]), head)
    if before is not None and before.data.startswith(b"UNA"):
        return before.marks
    for marks in (LEVEL_A, LEVEL_B):
        if head[3:4] == marks.element.encode():
            return marks
    raise Rejected("malformed_edi", "UNB has marks of its own, and no UNA names them; add one at the supplier")


def _encoding(unb: Elements, marks: Marks) -> str:
    told = component(unb, 1, 1, marks)
    if told not in ENCODINGS:
        raise Rejected("invalid_encoding", f"UNB names the encoding {told[:20]!r}, which is none; set encoding")
    return ENCODINGS[told]


def _standard(encoding: str | None) -> Standard:
    return Standard(
        name="EDIFACT",
        openings=(b"UNA", b"UNB"),
        marks_of=_marks,
        interchange=Frame("UNB", "UNZ", 5),
        group=Frame("UNG", "UNE", 5),
        message=Frame("UNH", "UNT", 1),
        type_of=lambda unh, marks: component(unh, 2, 1, marks),
        type="INVRPT",
        tail=("UNS", "CNT"),
        encoding_of=lambda unb, marks: encoding or _encoding(unb, marks),
        is_test=lambda header: element(header, 11) == "1",
        parts=_parts,
        qualifier=_qualifier,
    )
