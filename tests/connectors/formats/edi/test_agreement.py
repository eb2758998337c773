"""Laws of EDI: another parser, by its grammars of the standards, finds in the samples what we find."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.connectors.formats.edi.bots import Node, below, tree
from tests.connectors.formats.edi.samples import FOLDER, NAMES, config_of, found

ITEM_NUMBERS = ("VN", "UP", "SK", "UK", "BP")
DATES_X12 = ("007", "152", "036", "405", "018", "002")
PARTIES = ("SU", "WH", "ST")
NUMBERS = ("SA", "IN")
DATES = ("137", "366", "11")
NOTHING: Node = {}


def near(levels: list[list[Node]], tag: str) -> Iterator[Node]:
    return (node for level in levels for node in level if node["BOTSID"] == tag)


def levels(message: Node, item: Node, quantity: Node, tags: tuple[str, ...]) -> list[list[Node]]:
    """All below a quantity, then below its item but no quantity, then below the message but no item."""
    own = [node for tag in tags for node in below(quantity, tag)]
    items = [node for tag in tags for node in below(item | {"_children": without(item, "QTY", "INV")}, tag)]
    header = [node for tag in tags for node in below(message | {"_children": without(message, "LIN")}, tag)]
    return [own, [item, *items], header]


def without(node: Node, *tags: str) -> list[Node]:
    return [child for child in node.get("_children", []) if child["BOTSID"] not in tags]


def x12_rows(data: bytes) -> Iterator[tuple[str | None, ...]]:
    for interchange in re.split(rb"(?=ISA.00)", data)[1:]:  # it reads all with the marks of the first
        for message in below(tree("x12", interchange), "ST"):
            for item in below(message, "LIN"):
                numbers = {item[f"LIN{n:02}"]: item[f"LIN{n + 1:02}"] for n in range(2, 30, 2) if f"LIN{n:02}" in item}
                for quantity in [*below(item, "QTY")] or [NOTHING]:
                    at = levels(message, item, quantity, ("DTM", "N1"))
                    dates = [
                        next(
                            (dtm.get("DTM02", "") + dtm.get("DTM03", "") + dtm.get("DTM06", "")
                             for dtm in near(at, "DTM") if dtm["DTM01"] == code), None,
                        )
                        for code in DATES_X12
                    ]  # fmt: skip
                    parties = [
                        next((n1.get("N104", n1.get("N102")) for n1 in near(at, "N1") if n1["N101"] == code), None)
                        for code in PARTIES
                    ]
                    told = [quantity.get(name) for name in ("QTY02", "QTY01", "QTY03.01")]
                    yield (*(numbers.get(code) for code in ITEM_NUMBERS), *told, *parties, *dates)


def edifact_rows(data: bytes) -> Iterator[tuple[str | None, ...]]:
    for message in below(tree("edifact", data), "UNH"):
        for item in below(message, "LIN"):
            groups = [node for node in item["_children"] if node["BOTSID"] in ("QTY", "INV")]
            for group in groups:
                quantity = group if group["BOTSID"] == "QTY" else next(below(group, "QTY"))
                at = levels(message, item, group, ("PIA", "DTM", "LOC"))
                numbers = [
                    next((pia["C212#1.7140"] for pia in near(at, "PIA") if pia["C212#1.7143"] == code), None)
                    if code == "SA"
                    else next((pia["C212#2.7140"] for pia in near(at, "PIA") if pia.get("C212#2.7143") == code), None)
                    for code in NUMBERS
                ]
                places = [loc["C517.3225"] for loc in near(at, "LOC") if loc["3227"] == "18"]
                dates = [
                    next((dtm["C507.2380"] for dtm in near(at, "DTM") if dtm["C507.2005"] == code), None)
                    for code in DATES
                ]
                units = quantity["C186.6060"].replace(",", ".")  # which is a text to it from D.01B on
                told = [units, quantity["C186.6063"], quantity.get("C186.6411")]
                yield (item.get("C212.7140"), *numbers, *told, next(iter(places), None), *dates)


def digits(text: str | None) -> str | None:
    """Of a time, without its offset."""
    return None if text is None else "".join(re.findall("[0-9]", text.partition("+")[0]))


@pytest.mark.parametrize("name", NAMES)
def test_another_parser_finds_the_same_items_quantities_and_dates(name: str) -> None:
    data = (FOLDER / name).read_bytes()
    if name.startswith("x12"):
        theirs, dates = list(x12_rows(data)), len(DATES_X12)
        paths = [*(f"LIN.{code}" for code in ITEM_NUMBERS), "QTY", "QTY.qualifier", "QTY.unit"]
        paths += [*(f"N1.{code}" for code in PARTIES), *(f"DTM.{code}" for code in DATES_X12)]
    else:
        theirs, dates = list(edifact_rows(data)), len(DATES)
        paths = ["LIN", *(f"PIA.{code}" for code in NUMBERS), "QTY", "QTY.qualifier", "QTY.unit", "LOC.18"]
        paths += [f"DTM.{code}" for code in DATES]
    ours, broken = found(data, config_of(name), *paths)
    assert (len(ours), broken) == (len(theirs), [])
    for our, their in zip(ours, theirs, strict=True):
        assert our[:-dates] == their[:-dates]
        for ours_at, theirs_at in zip(our[-dates:], their[-dates:], strict=True):
            assert (digits(ours_at) or "").startswith(digits(theirs_at) or "")
            assert (ours_at is None) == (theirs_at is None)
    assert len(ours) >= 3
