"""Where a field of an item-quantity is: the paths that both standards share, and how they are looked for.

A place has levels, the nearest first: the quantity's own segments, its item's, the header's, the envelope's. What a
path names is taken from the nearest segment that has it. Used by `x12`, `edifact` and `interchanges`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from connectors.formats.edi.segments import Marks, released, split
from stockweave.errors import Rejected

Elements = list[str]
"""A segment as texts: its tag, then its elements as they are written."""


class Place(NamedTuple):
    """What a row may look at. `quantities`: of the item, each with its segments, this one's among them."""

    levels: Sequence[Sequence[Elements]]
    quantities: Sequence[Sequence[Elements]]
    marks: Marks


Field = Callable[[Place], str | None]
Pick = Callable[[Elements, Marks], str]
"""What a segment says, "" for nothing."""

_RAW = re.compile(r"([A-Z][A-Z0-9]{1,2})([0-9]{2})(?:-([1-9][0-9]?))?")
_OTHER = re.compile(r"QTY\.([A-Z0-9]{1,3})(?:/(.+))?")


def element(elements: Elements, at: int) -> str:
    """One as it is written; "" if there is none."""
    return elements[at] if at < len(elements) else ""


def component(elements: Elements, at: int, part: int, marks: Marks) -> str:
    """One part of an element, from 1, as it was meant."""
    parts = split(element(elements, at), marks.component, marks.release)
    return released(parts[part - 1], marks.release) if part <= len(parts) else ""


def nearest(tag: str, pick: Pick) -> Field:
    """What the nearest segment has that says anything."""

    def find(place: Place) -> str | None:
        for level in place.levels:
            if found := first(level, tag, pick, place.marks):
                return found
        return None

    return find


def own(tag: str, pick: Pick) -> Field:
    """Of the quantity's own segments alone."""
    return lambda place: first(place.levels[0], tag, pick, place.marks) or None


def first(segments: Sequence[Elements], tag: str, pick: Pick, marks: Marks) -> str:
    """Of some segments."""
    for elements in segments:
        if elements[0] == tag and (found := pick(elements, marks)):
            return found
    return ""


def raw(path: str, *, whole: bool) -> Field | None:
    """`SEGnn`, an element by its place, or `SEGnn-m`, a part of it; None for another path.

    Args:
        path: of a mapping.
        whole: whether an element without `-m` is all of it, and not its first part.
    """
    if (told := _RAW.fullmatch(path)) is None:
        return None
    tag, at, part = told[1], int(told[2]), int(told[3] or 0)
    if not at:
        return None
    if whole and not part:
        return nearest(tag, lambda elements, _: element(elements, at))
    return nearest(tag, lambda elements, marks: component(elements, at, part or 1, marks))


def of_other(path: str, field: Callable[[str], Field], qualifier: Pick) -> Field | None:
    """`QTY.code`, the number of the item's quantity of that code, and `QTY.code/path`, what stands below that one."""
    if (told := _OTHER.fullmatch(path)) is None:
        return None
    code, inner = told[1], field(told[2] or "QTY")

    def find(place: Place) -> str | None:
        for segments in place.quantities:
            if first(segments, "QTY", qualifier, place.marks) == code:
                return inner(place._replace(levels=[segments]))
        return None

    return find


def no_path(path: str, examples: str) -> Rejected:
    """What is to be said of a path that cannot be."""
    return Rejected("invalid_path", f"{path!r} is no path here; send one such as {examples}", path)
