"""However a stream is cut into parts, its lines are the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.push.body import LineSplitter

LIMIT = 5


@given(st.lists(st.text("ab\n", max_size=14).map(str.encode), max_size=12))
def test_lines_do_not_depend_on_how_the_stream_is_cut(parts: list[bytes]) -> None:
    splitter = LineSplitter(LIMIT)
    lines = [line for part in parts for line in splitter.feed(part)]
    lines.append(splitter.close())
    assert lines == [line if len(line) <= LIMIT else None for line in b"".join(parts).split(b"\n")]


def test_a_line_without_an_end_does_not_stay_in_memory() -> None:
    splitter = LineSplitter(1_000)
    for _ in range(100):
        assert splitter.feed(b"x" * 1_000) == []
        assert sum(map(len, splitter._begun)) <= 1_000
    assert splitter.feed(b"x\nab") == [None]
    assert splitter.close() == b"ab"
