"""The sample documents, and what is done with them in several tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from connectors.formats.edi.edifact import EdifactConfig
from connectors.formats.edi.x12 import X12Config
from connectors.formats.reader import Format, read
from connectors.formats.rows import Broken, Rows

FOLDER = Path(__file__).parent / "samples"
NAMES = sorted(file.name for file in FOLDER.glob("*.edi"))


def config_of(name: str) -> Format:
    return X12Config() if name.startswith("x12") else EdifactConfig()


def blocks(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def found(data: bytes, config: Format, *paths: str, size: int = 1 << 20) -> tuple[list[tuple[Any, ...]], list[Broken]]:
    """All rows' cells, and all that is broken."""
    parts = list(read(blocks(data, size), config, paths))
    return cells(parts, paths), [broken for rows in parts for broken in rows.broken]


def cells(parts: Sequence[Rows], paths: Sequence[str]) -> list[tuple[Any, ...]]:
    return [row for rows in parts for row in zip(*(rows.columns[path].to_pylist() for path in paths), strict=True)]


def x12(*messages: str, tail: str = "GE*{count}*7~IEA*1*000000017~") -> bytes:
    """Messages in an interchange, each of its own segments, or whole with ST and SE."""
    head = f"ISA*00*{' ' * 10}*00*{' ' * 10}*ZZ*{'NORTHWIND':15}*ZZ*{'SHOP':15}*261120*0642*U*00401*000000017*0*P*>~"
    whole = [each if each.startswith("ST*") else x12_message(each, n) for n, each in enumerate(messages, 1)]
    return (head + "GS*IB*N*S*20261120*0642*7*X*004010~" + "".join(whole) + tail.format(count=len(whole))).encode()


def x12_message(segments: str, number: int = 1) -> str:
    return f"ST*846*{number:04}~BIA*00*DD*R*20261120~{segments}SE*{segments.count('~') + 3}*{number:04}~"


def edifact(*messages: str, tail: str = "UNZ+{count}+R'") -> bytes:
    """The same of EDIFACT."""
    whole = [each if each.startswith("UNH+") else edifact_message(each, n) for n, each in enumerate(messages, 1)]
    return ("UNB+UNOC:3+A+B+261120:0642+R'" + "".join(whole) + tail.format(count=len(whole))).encode("latin-1")


def edifact_message(segments: str, number: int = 1) -> str:
    count = len(re.findall(r"(?<!\?)(?:\?\?)*'", segments)) + 3
    return f"UNH+{number}+INVRPT:D:96A:UN'BGM+35+R+9'{segments}UNT+{count}+{number}'"
