"""Laws of EDI's envelopes: a message is whole or broken, and nothing of a document goes without being told."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats.edi import interchanges, messages
from connectors.formats.edi.edifact import EdifactConfig
from connectors.formats.edi.x12 import X12Config
from connectors.formats.reader import read, read_again
from stockweave.errors import Rejected
from tests.connectors.formats.edi.samples import (
    FOLDER,
    NAMES,
    blocks,
    cells,
    config_of,
    edifact,
    edifact_message,
    found,
    x12,
    x12_message,
)

ITEM, OTHER = "LIN**VN*A~QTY*33*1~", "LIN**VN*B~QTY*33*2~"
ITEM_E, OTHER_E = "LIN+1++A'QTY+145:1'", "LIN+1++B'QTY+145:2'"


def said(data: bytes, *, edi: str = "x12") -> tuple[list[str], list[tuple[int, bytes, str]]]:
    """Numbers of items, and what is broken."""
    config, path = (X12Config(), "LIN.VN") if edi == "x12" else (EdifactConfig(), "LIN")
    rows, broken = found(data, config, path)
    return [row[0] for row in rows], [(each.number, each.original, each.detail) for each in broken]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 300), at_once=st.integers(1, 5))
def test_rows_are_the_same_however_the_document_is_cut(name: str, size: int, at_once: int) -> None:
    data, config = (FOLDER / name).read_bytes(), config_of(name)
    paths = ["LIN.VN", "QTY", "QTY.qualifier"] if name.startswith("x12") else ["LIN", "QTY", "QTY.qualifier"]
    whole, _ = found(data, config, *paths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interchanges, "ROWS_AT_ONCE", at_once)
        parts = list(read(blocks(data, size), config, paths))
    assert cells(parts, paths) == whole
    assert [n for part in parts for n in part.numbers.to_pylist()] == list(range(len(whole)))


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_the_bytes_of_its_item_as_they_are_in_the_document(name: str) -> None:
    data, config = (FOLDER / name).read_bytes(), config_of(name)
    [rows] = read([data], config, ["QTY"])
    originals = [rows.original(place) for place in range(len(rows.numbers))]
    at = 0
    for original in dict.fromkeys(originals):
        assert (at := data.find(original, at)) > 0
        assert (original[:3], original.count(b"LIN"), original.count(b"CTT")) == (b"LIN", 1, 0)
        assert original.endswith((b"~", b"'", b"\x1c", b"\n" if "line_feed" in name else b"~"))
        ends = (b"LIN", b"CTT", b"SE", b"UNT")
        assert data[at + len(original) :].lstrip().startswith(ends)


def test_messages_and_interchanges_follow_one_another() -> None:
    assert said(x12(ITEM, OTHER) + b"\r\n" + x12(OTHER)) == (["A", "B", "B"], [])
    assert said(edifact(ITEM_E, OTHER_E) + b"\n" + edifact(OTHER_E), edi="edifact") == (["A", "B", "B"], [])


@pytest.mark.parametrize("end", [b"", b"~", b"~\r\n", b"~\r\n\x1a", b"~\0\0\0", b"~~~"])
def test_what_follows_the_last_segment_on_old_systems_does_no_harm(end: bytes) -> None:
    assert said(b"\xef\xbb\xbf\r\n" + x12(ITEM).removesuffix(b"~") + end) == (["A"], [])


@pytest.mark.parametrize(
    ("trailer", "why"),
    [
        ("SE*9*0001~", "SE says '9' segments, and 5 came"),
        ("SE**0001~", "SE says '' segments, and 5 came"),
        ("SE*5~", "SE has the number '', and its header '0001'"),
        ("SE*5*0002~", "SE has the number '0002', and its header '0001'"),
    ],
)
def test_a_message_whose_trailer_does_not_fit_is_broken_and_others_are_not(trailer: str, why: str) -> None:
    bad = f"ST*846*0001~BIA*00*DD*R*20261120~{ITEM}{trailer}"
    numbers, [(number, original, detail)] = said(x12(bad, OTHER))
    assert (numbers, number, original) == (["B"], 0, bad.encode())
    assert detail.startswith(why)


def test_a_message_of_edifact_whose_trailer_does_not_fit_is_broken() -> None:
    bad = edifact_message(ITEM_E).replace("UNT+5", "UNT+6")
    numbers, [(number, original, detail)] = said(edifact(OTHER_E, bad, OTHER_E), edi="edifact")
    assert (numbers, number, original) == (["B", "B"], 1, bad.encode())
    assert "UNT says '6' segments, and 5 came" in detail


@pytest.mark.parametrize(
    ("data", "original", "why"),
    [
        (x12(ITEM, tail="GE*2*7~IEA*1*17~"), b"GE*2*7", "GE says '2' messages, and 1 came"),
        (x12(ITEM, tail="GE*1*8~IEA*1*17~"), b"GE*1*8", "GE has the number '8', and its header '7'"),
        (x12(ITEM, tail="GE*1*7~IEA*2*17~"), b"IEA*2*17", "IEA says '2' groups, and 1 came"),
        (x12(ITEM, tail="GE*1*7~IEA*1*18~"), b"IEA*1*18", "IEA has the number '18', and its header '000000017'"),
        (x12(ITEM, tail="IEA*1*17~"), b"GS*IB*N*S*20261120*0642*7*X*004010", "there is no GE"),
        (x12(ITEM, tail="GE*1*7~GE*1*7~IEA*1*17~"), b"GE*1*7", "GE ends no group"),
        (x12(ITEM, tail="GE*1*7~IEA*1*17~IEA*1*17~"), b"IEA*1*17", "IEA ends no interchange"),
        (x12(ITEM, tail="SE*5*0001~GE*1*7~IEA*1*17~"), b"SE*5*0001", "SE ends no message"),
        (x12(ITEM, tail="ZZZ*1~QTY*33*9~GE*1*7~IEA*1*17~"), b"ZZZ*1~QTY*33*9~", "stand outside of ST and SE"),
        (x12(ITEM, tail="ZZZ*1~SE*2*0001~GE*1*7~IEA*1*17~"), b"ZZZ*1~SE*2*0001~", "stand outside of ST and SE"),
        (x12(ITEM, tail="GE*1*7~IEA*1*17~TA1*1~"), b"TA1*1~", "stand outside of ST and SE"),
    ],
)
def test_an_envelope_that_does_not_fit_is_told_and_its_whole_messages_are_used(
    data: bytes, original: bytes, why: str
) -> None:
    numbers, [(_, told, detail)] = said(data)
    assert (numbers, told) == (["A"], original)
    assert why in detail


def test_an_envelope_of_edifact_that_does_not_fit_is_told() -> None:
    numbers, [(_, told, detail)] = said(edifact(ITEM_E, tail="UNZ+2+R'"), edi="edifact")
    assert (numbers, told) == (["A"], b"UNZ+2+R")
    assert "UNZ says '2' messages, and 1 came" in detail
    numbers, [(_, told, detail)] = said(edifact(ITEM_E, tail="") + edifact(OTHER_E), edi="edifact")
    assert (numbers, told) == (["A", "B"], b"UNB+UNOC:3+A+B+261120:0642+R")
    assert "the interchange breaks off: there is no UNZ" in detail


def test_a_document_that_breaks_off_anywhere_tells_it_and_gives_no_row_of_its_last_message() -> None:
    data = x12(ITEM, OTHER)
    start, end = data.index(b"ST*846*0002"), data.index(b"GE*")
    for cut in range(start + len("ST*846"), len(data) - 2):
        numbers, broken = said(data[:cut])
        assert numbers == (["A", "B"] if cut >= end - 1 else ["A"])
        assert broken
        if cut < end - 9:
            assert broken[0][1] == data[start:cut]
            assert "the message breaks off: there is no SE" in broken[0][2]


def test_a_message_that_another_begins_in_is_broken() -> None:
    open_one = x12_message(ITEM).removesuffix("SE*5*0001~")
    numbers, [(number, original, detail)] = said(x12(open_one, OTHER))
    assert (numbers, number, original) == (["B"], 0, open_one.encode())
    assert "there is no SE" in detail


def test_messages_of_other_types_are_told_with_their_bytes() -> None:
    order = "ST*850*0001~BEG*00*SA*1**20261120~PO1*1*5*EA~SE*4*0001~"
    numbers, [(_, original, detail)] = said(x12(order, OTHER))
    assert (numbers, original) == (["B"], order.encode())
    assert "the message is of type '850', and 846 alone is read" in detail
    orders = "UNH+1+ORDERS:D:96A:UN'BGM+220'LIN+1++A'UNT+4+1'"
    numbers, [(_, original, detail)] = said(edifact(orders, OTHER_E), edi="edifact")
    assert (numbers, original) == (["B"], orders.encode())
    assert "of type 'ORDERS', and INVRPT alone is read" in detail


def test_a_message_outside_of_an_interchange_is_broken() -> None:
    message = x12_message(OTHER)
    numbers, [(_, original, detail)] = said(x12(ITEM) + message.encode())
    assert (numbers, original) == (["A"], message.encode())
    assert "send ISA before it" in detail


def test_messages_of_a_test_are_told_unless_they_are_wanted() -> None:
    data = x12(ITEM).replace(b"*P*", b"*T*")
    numbers, [(_, original, detail)] = said(data)
    assert (numbers, original) == ([], x12_message(ITEM).encode())
    assert "is a test, by its ISA; set tests: true" in detail
    assert found(data, X12Config(tests=True), "LIN.VN") == ([("A",)], [])
    data = edifact(ITEM_E).replace(b"+R'UNH", b"+R++++++1'UNH")
    numbers, [(_, original, detail)] = said(data, edi="edifact")
    assert "is a test, by its UNB" in detail
    assert found(data, EdifactConfig(tests=True), "LIN") == ([("A",)], [])


@pytest.mark.parametrize("name", [name for name in NAMES if "line_feed" not in name])
@pytest.mark.parametrize("width", [7, 80])
def test_lines_that_break_where_they_are_full_change_no_row(name: str, width: int) -> None:
    data, config = (FOLDER / name).read_bytes(), config_of(name)
    paths = ["LIN03", "QTY", "QTY.qualifier", "LIN03-1"]
    whole = data.replace(b"\r", b"").replace(b"\n", b"")
    lines = b"\r\n".join([whole[:80], *blocks(whole[80:], width)])
    assert found(lines, config, *paths) == found(data, config, *paths)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_what_is_broken_has_its_number_among_the_rows(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interchanges, "ROWS_AT_ONCE", at_once)
    bad = x12_message(ITEM).replace("SE*5", "SE*6")
    parts = list(read([x12(OTHER, bad, ITEM, bad, OTHER)], X12Config(), ["QTY"]))
    assert [number for rows in parts for number in rows.numbers.to_pylist()] == [0, 2, 4]
    assert [broken.number for rows in parts for broken in rows.broken] == [1, 3]


@pytest.mark.parametrize(
    ("rest", "config", "why"),
    [
        (b"ISA*" + b"A" * 600, X12Config(), "and not with ISA of 16 elements"),
        (b"ZZZ" + b"A" * (2 << 20), X12Config(), "a segment is longer"),
        (edifact(ITEM_E).replace(b"UNOC", b"NONE"), EdifactConfig(), "names the encoding 'NONE'"),
        (b"UNB|UNOC", EdifactConfig(), "UNB has marks of its own"),
    ],
)
def test_what_came_before_that_which_cannot_be_read_is_used(
    rest: bytes, config: X12Config | EdifactConfig, why: str
) -> None:
    parts = read([x12(ITEM) if config.format == "x12" else edifact(ITEM_E), rest], config, ["QTY"])
    assert cells([next(parts)], ["QTY"]) == [("1",)]
    with pytest.raises(Rejected, match=why):
        list(parts)


def test_a_message_without_an_end_is_given_up_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MESSAGE_BYTES_MAX", 10_000)
    start = x12(ITEM, tail="").removesuffix(b"SE*5*0001~")
    taken = []

    def endless() -> Iterator[bytes]:
        for _ in range(1_000):
            taken.append(1)
            yield ITEM.encode() * 10

    parts = read(chain([x12(OTHER), start], endless()), X12Config(), ["LIN.VN"])
    rows = next(parts)
    assert cells([rows], ["LIN.VN"]) == [("B",)]
    assert rows.broken[0].original.startswith(start[start.index(b"ST*") :])
    with pytest.raises(Rejected, match="a message is larger than 10000 bytes"):
        next(parts)
    assert len(taken) < 60


def test_messages_are_let_go_of_though_they_have_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interchanges, "BYTES_AT_ONCE", 5_000)
    orders = [f"ST*850*{n:04}~{'PO1*1*5*EA~' * 100}SE*102*{n:04}~" for n in range(1, 51)]
    parts = list(read([x12(*orders)], X12Config(), ["QTY"]))
    assert sum(len(rows.broken) for rows in parts) == 50
    assert max(len(rows.broken) for rows in parts) == 5


@pytest.mark.parametrize("config", [X12Config(), EdifactConfig()])
def test_a_row_is_not_read_again_without_its_message(config: X12Config | EdifactConfig) -> None:
    with pytest.raises(Rejected, match="have the feed read its file again"):
        read_again(b"", ITEM.encode(), config, ["QTY"])
