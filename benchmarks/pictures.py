"""`python -m benchmarks pictures`: draws docs/pictures/*.svg from benchmarks/results/*.json, one of each benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.svg import LIMIT, OURS, PEER, Bar, Dots, bars, dots

FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
Loaded = dict[str, Any]


def main(_arguments: list[str]) -> int:
    """The command."""
    for name, draw in DRAWN.items():
        loaded = results.load(name)
        if loaded is None:
            print(f"{name}: no results; `python -m benchmarks {name} --save` first")
            continue
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{name}.svg"
        path.write_text(draw(loaded), "utf-8")
        print(f"{name}: {path.relative_to(FOLDER.parent.parent)}")
    return 0


def ingest(loaded: Loaded) -> str:
    """Events per second of processor time."""
    drawn = [
        Bar(name, of["per_cpu_second"], f"{of['per_cpu_second']:,.0f}", OURS if name == "stockweave" else PEER)
        for name, of in loaded["figures"]["contestants"].items()
    ]
    return bars("Updates folded and committed per second of processor time", _of(loaded), [drawn])


def latency(loaded: Loaded) -> str:
    """From 202 to visible by rate, with the bare path."""
    groups = []
    for rate, of in loaded["figures"].items():
        how = f", batches of {of['lines']}" if of["lines"] > 1 else ""
        ours = Dots(f"{int(rate):,}/s{how}", [(q, of["visible"][q]) for q in of["visible"]], OURS)
        groups.append([ours, Dots("bare path", [(q, of["bare"][q]) for q in of["bare"]], PEER)])
    return dots(
        "From an accepted update to a read that shows it, beside Kafka's bare path",
        _of(loaded),
        groups,
        "ms",
        (75.0, "p99 bar"),
    )


def replay(loaded: Loaded) -> str:
    """The rate of verify beside the bare loop's."""
    figures = loaded["figures"]
    verify, bare = (sorted(figures[name])[len(figures[name]) // 2] for name in ("verify", "bare"))
    drawn = [
        Bar("stockweave verify", verify, f"{verify:,.0f}", OURS),
        Bar("a loop that only consumes", bare, f"{bare:,.0f}", LIMIT),
    ]
    title = f"Updates per second, over {figures['updates']:,}"
    return bars(title, _of(loaded), [drawn], (bare / 3, "a third"))


def recover(loaded: Loaded) -> str:
    """Seconds from kill to serving."""
    groups = []
    for rows, of in loaded["figures"].items():
        millions = f"{int(rows) / 1e6:g} M rows"
        groups += [
            [
                _seconds(f"{what}, disk kept, {millions}", of[f"{what.lower()}_disk"], OURS)
                for what in ("Worker", "API")
            ],
            [
                _seconds(f"{what}, from topic, {millions}", of[f"{what.lower()}_topic"], OURS)
                for what in ("Worker", "API")
            ]
            + [_seconds("topic only read", of["topic"], LIMIT)],
        ]
    return bars("Seconds from kill -9 to serving", _of(loaded), groups)


def scale(loaded: Loaded) -> str:
    """Memory by SKUs, each relative to its bar, for the two have units of their own."""
    groups = []
    for rows, of in loaded["figures"]["rows"].items():
        millions = f"{int(rows) / 1e6:g} M SKUs"
        memory, disk = of["peak_mb"] * 1e6 / 2**30, of["row_bytes"] / 600
        groups.append(
            [
                Bar(f"{millions}: worker's memory", memory, f"{of['peak_mb']:,.0f} MB", OURS),
                Bar(f"{millions}: disk per row", disk, f"{of['row_bytes']:,.0f} bytes", PEER),
            ]
        )
    title = "Peak memory of a worker, and disk of a row of five sources, against their bars"
    return bars(title, _of(loaded), groups, (1.0, "1 GiB, 600 bytes"))


def _seconds(name: str, seconds: float, colour: str) -> Bar:
    return Bar(name, seconds, f"{seconds:.1f} s", colour)


def _of(loaded: Loaded) -> str:
    machine = loaded["environment"]
    size = f"{machine['cores']} cores, {machine['memory_gib']} GiB"
    return f"{size}, {machine['system']}; {loaded['date']}, {loaded['commit']}"


DRAWN: dict[str, Callable[[Loaded], str]] = {
    "ingest": ingest,
    "latency": latency,
    "replay": replay,
    "recover": recover,
    "scale": scale,
}
