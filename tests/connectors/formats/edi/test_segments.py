"""Laws of segments: none of their bytes is lost, releases are kept apart from marks, and nothing takes forever."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats.edi import edifact, x12
from connectors.formats.edi.edifact import EdifactConfig
from connectors.formats.edi.segments import Marks, Segment, released, segments, split
from connectors.formats.edi.x12 import X12Config
from connectors.formats.reader import Format, read
from stockweave.errors import Rejected
from tests.connectors.formats.edi.samples import FOLDER, NAMES, blocks, config_of
from tests.connectors.formats.edi.samples import x12 as document

TEXTS = st.text("ab+:?'\n\u00e9", max_size=8)
SEEDS = 300


def cut(data: bytes, size: int, kind: str) -> list[Segment]:
    if kind == "x12":
        return list(segments(blocks(data, size), (b"ISA",), x12._marks))
    return list(segments(blocks(data, size), (b"UNA", b"UNB"), edifact._marks))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_segments_are_the_bytes_of_the_document(name: str, size: int) -> None:
    data = (FOLDER / name).read_bytes()
    told = cut(data, size, name.partition("_")[0])
    assert b"".join(each.lead + each.data + each.end for each in told) == data.removesuffix(b"\n").removesuffix(
        b"\r"
    ) + (b"\n" if data.endswith(b"\n") and told[-1].end == b"\n" else b"")
    assert all(each.tag.isalnum() for each in told if not each.data.startswith(b"UNA"))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.lists(TEXTS, min_size=1, max_size=3), min_size=1, max_size=3), max_size=6),
       st.integers(1, 30))  # fmt: skip
def test_texts_are_those_that_were_released_however_they_are_cut(written: list[list[list[str]]], size: int) -> None:
    def of(text: str) -> str:
        return "".join(f"?{mark}" if mark in "+:?'" else mark for mark in text)

    lines = ["TAG+" + "+".join(":".join(map(of, parts)) for parts in each) for each in written]
    data = "".join(f"{line}'\n" for line in ["UNB+UNOC:3", *lines]).encode("latin-1")
    told = cut(data, size, "edifact")[1:]
    read_back = [
        [
            [released(part, "?") for part in split(element, ":", "?")]
            for element in split(each.data.decode("latin-1"), "+", "?")[1:]
        ]
        for each in told
    ]
    assert read_back == written


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Some bytes of it changed, left out, doubled, moved, or of nothing at all."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at, to = sorted(chance.randrange(len(made) + 1) for _ in range(2))
        act = chance.randrange(5)
        if act == 0 and made:
            made[min(at, len(made) - 1)] = chance.choice(b"~*>+:?'\n\0\xff0LINISAUNAUNB")
        elif act == 1:
            del made[at : min(to, at + 40)]
        elif act == 2:
            made[at:at] = made[at : min(to, at + 200)]
        elif act == 3:
            made[at:at] = bytes(chance.randrange(256) for _ in range(chance.randint(1, 20)))
        else:
            made = made[:to] + made[:at]
    return bytes(made)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_documents_are_rejected_or_broken_and_never_crash(name: str) -> None:
    data, config = (FOLDER / name).read_bytes(), config_of(name)
    paths = ["LIN03", "QTY", "QTY.29", "DTM.137", "LIN.EN"]
    seen = set()
    for seed in range(SEEDS):
        chance = random.Random(f"{name}{seed}")
        hurt = damaged(data, chance)
        try:
            parts = list(read(blocks(hurt, chance.randint(1, 400)), config, paths))
        except Rejected:
            seen.add("rejected")
            continue
        for rows in parts:
            assert all(broken.original in hurt for broken in rows.broken)
            assert all(rows.original(place) in hurt for place in range(len(rows.numbers)))
            seen |= {"broken"} if rows.broken else set()
    assert seen == {"rejected", "broken"}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([X12Config(), EdifactConfig()]))
def test_bytes_of_any_kind_are_rejected_or_broken(data: bytes, config: Format) -> None:
    head = document("")[:106] if config.format == "x12" else b"UNB+UNOC:3'"
    for each in (data, head + data):
        try:
            list(read([each], config, ["QTY", "LIN03"]))
        except Rejected as why:
            assert why.reason in ("malformed_edi", "segment_too_long", "invalid_encoding")  # noqa: PT017


@pytest.mark.parametrize("block", [1 << 12, 1 << 16, 5 << 20])
@pytest.mark.parametrize(
    "make",
    [
        lambda: b"UNB+" + b"a" * (5 << 20),
        lambda: b"UNB+" + b"?" * (5 << 20) + b"'",
        lambda: b"UNB+" + b"?'" * (5 << 19),
        lambda: b"UNB+UNOC:3'" + b"\n" * (5 << 20),
        lambda: b"UNB+UNOC:3'" + b"+" * (5 << 20),
    ],
)
def test_a_segment_without_an_end_is_given_up_before_it_fills_the_memory(make: Callable[[], bytes], block: int) -> None:
    with pytest.raises(Rejected, match="a segment is longer than 1048576 bytes"):
        list(read(blocks(make(), block), EdifactConfig(), ["QTY"]))


def test_bytes_are_looked_at_a_fixed_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    class Counting(bytearray):
        def find(self, what: bytes, at: int = 0) -> int:  # type: ignore[override]
            nonlocal looked
            end = super().find(what, at)
            looked += (len(self) if end < 0 else end) - at
            return end

    monkeypatch.setattr("connectors.formats.edi.segments.bytearray", Counting, raising=False)
    data = b"UNB+UNOC:3'" + b"ABC+" + b"x?'" * 200_000 + b"'"
    assert len(cut(data, 1_000, "edifact")) == 2
    assert looked < 3 * len(data)


def test_marks_are_told_apart() -> None:
    assert split("a+b?+c??+d", "+", "?") == ["a", "b?+c??", "d"]
    assert split("a?", "+", "?") == ["a?"]
    assert (released("b?+c??", "?"), released("a?", "?"), released("a?b", "")) == ("b+c?", "a?", "a?b")
    assert Marks("+", ":", "?", "'").decimal == "."
