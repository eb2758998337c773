"""What a contestant is given, and what it gives back: a process to watch, by its consumer group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from schemas.rows import StockRow


@dataclass(frozen=True)
class Feed:
    """A filled topic.

    `base_ends`: the offset after the base, by partition; `warm`: events before the measured part (base and warm-up);
    `end`: all events.
    """

    bootstrap_servers: str
    topic_prefix: str
    topic: str
    partitions: int
    base_ends: list[int]
    warm: int
    end: int


@dataclass(frozen=True)
class Started:
    """One that consumes. `log`: what it prints; `measure_from`, `measure_to`: in committed events of its group."""

    process: Popen[bytes]
    log: Path
    group: str
    measure_from: int
    measure_to: int


@dataclass(frozen=True)
class Contestant:
    """One line of the table.

    `guarantee`: what it really gives. `prepare`: builds or installs, once, before anything is measured. `start`: begins
    anew over the feed, in an empty folder of its own. `rows`: what it has made of the whole feed, to be compared; None
    where it does not fold all.
    """

    name: str
    guarantee: str
    prepare: Callable[[], None]
    start: Callable[[Feed, Path], Started]
    rows: Callable[[Feed], Iterator[StockRow]] | None = None
