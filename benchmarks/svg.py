"""Two kinds of plain SVG pictures: bars in groups, and dots on a logarithmic scale; pure, numbers in, text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LABELS, RIGHT, TOP = 760, 232, 96, 74
BAR, GAP, GROUP_GAP, FOOT = 18, 4, 14, 26
OURS, PEER, LIMIT, BAD, INK, FAINT, GRID = "#0f766e", "#7c8ba1", "#c3ccd8", "#b91c1c", "#1f2937", "#6b7280", "#e5e7eb"
FONT = "font-family='system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif'"


@dataclass(frozen=True)
class Bar:
    """One bar; `text`: its value in words."""

    name: str
    value: float
    text: str
    colour: str


@dataclass(frozen=True)
class Dots:
    """One line of dots, each a value and its name."""

    name: str
    values: Sequence[tuple[str, float]]
    colour: str


def bars(title: str, subtitle: str, groups: Sequence[Sequence[Bar]], marked: tuple[float, str] | None = None) -> str:
    """Horizontal bars from zero, in groups; `marked`: a value to be held, and its name, as a dashed line."""
    top = max([bar.value for group in groups for bar in group] + [marked[0] if marked else 0]) or 1.0
    scale = (WIDTH - LABELS - RIGHT) / top
    parts, y = [], float(TOP)
    for group in groups:
        for bar in group:
            length, middle = max(1.0, bar.value * scale), y + BAR / 2 + 4
            parts.append(_text(LABELS - 10, middle, bar.name, INK, 12, "end"))
            parts.append(
                f"<rect x='{LABELS}' y='{y:.1f}' width='{length:.1f}' height='{BAR}' rx='2' fill='{bar.colour}'/>"
            )
            parts.append(_text(LABELS + length + 6, middle, bar.text, INK, 12))
            y += BAR + GAP
        y += GROUP_GAP
    if marked is not None:
        parts += _mark(LABELS + marked[0] * scale, y - GROUP_GAP, marked[1])
    return _picture(title, subtitle, y - GROUP_GAP + FOOT, parts)


def dots(title: str, subtitle: str, groups: Sequence[Sequence[Dots]], unit: str, marked: tuple[float, str]) -> str:
    """Lines of dots over a logarithmic axis, in groups; `marked` as in `bars`."""
    every = [value for group in groups for line in group for _, value in line.values] + [marked[0]]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))

    def x(value: float) -> float:
        return LABELS + (math.log10(value) - low) / max(1, high - low) * (WIDTH - LABELS - 40)

    height = sum(len(group) * (BAR + 14) + GROUP_GAP for group in groups)
    bottom = TOP + height - GROUP_GAP
    parts = []
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{TOP - 4}' y2='{bottom}' stroke='{GRID}'/>")
        parts.append(_text(at, bottom + 16, f"{10.0**power:g} {unit}", FAINT, 11, "middle"))
    y = float(TOP)
    for group in groups:
        for line in group:
            middle = y + BAR / 2 + 8
            places = [x(value) for _, value in line.values]
            parts.append(_text(LABELS - 10, middle + 4, line.name, INK, 12, "end"))
            parts.append(
                f"<line x1='{min(places):.1f}' x2='{max(places):.1f}' y1='{middle:.1f}' y2='{middle:.1f}' "
                f"stroke='{line.colour}' stroke-width='3' stroke-opacity='.45'/>"
            )
            last = -math.inf
            for (name, _), at in sorted(zip(line.values, places, strict=True), key=lambda pair: pair[1]):
                parts.append(f"<circle cx='{at:.1f}' cy='{middle:.1f}' r='5' fill='{line.colour}'/>")
                if at - last > 30:  # else the names would lie over each other
                    parts.append(_text(at, middle - 9, name, FAINT, 10, "middle"))
                    last = at
            y += BAR + 14
        y += GROUP_GAP
    parts += _mark(x(marked[0]), bottom, marked[1])
    return _picture(title, subtitle, bottom + FOOT + 6, parts)


def _mark(x: float, bottom: float, name: str) -> list[str]:
    line = f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{TOP - 6}' y2='{bottom:.1f}' stroke='{BAD}' stroke-dasharray='5 4'/>"
    return [line, _text(x, TOP - 10, name, BAD, 11, "middle" if x < WIDTH - 100 else "end")]


def _text(x: float, y: float, text: str, colour: str, size: int, anchor: str = "start", weight: str = "400") -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' fill='{colour}' font-size='{size}' text-anchor='{anchor}' "
        f"font-weight='{weight}' {FONT}>{escape(text)}</text>"
    )


def _picture(title: str, subtitle: str, height: float, parts: Sequence[str]) -> str:
    frame = f"<rect x='.5' y='.5' width='{WIDTH - 1}' height='{height - 1:.0f}' rx='8' fill='#ffffff' stroke='{GRID}'/>"
    head = [_text(18, 28, title, INK, 16, weight="600"), _text(18, 46, subtitle, FAINT, 11)]
    size = f"width='{WIDTH}' height='{height:.0f}' viewBox='0 0 {WIDTH} {height:.0f}'"
    return "\n".join([f"<svg xmlns='http://www.w3.org/2000/svg' {size}>", frame, *head, *parts, "</svg>", ""])
