"""A history: what clients asked, when, and what they were told; a record a line, as JSON.

Times are nanoseconds of the recording machine's monotonic clock, the same for all records. The checker reads the file;
`checker/history.go` has the same names.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class Attempt(Struct, tag="attempt", tag_field="kind", omit_defaults=True, kw_only=True):
    """One request. The attempts at one `call` ask the same with the same key, one after the other.

    `api`: that was asked; `action`: reserve, commit, release, fulfil or extend; `key`: "" for none; `order`: of a
    reserve; `reservation`: of any other; `quantity`: 0 for all that is open; `status`: 0 where the outcome is not
    known, and then `why`; `told`: the body of the answer.
    """

    call: int
    client: int
    api: str
    sku: str
    action: str
    key: str = ""
    order: str = ""
    reservation: str = ""
    quantity: int = 0
    partial: bool = False
    expires_s: int = 0
    called: int
    returned: int = 0
    status: int = 0
    why: str = ""
    told: dict[str, Any] | None = None


class Stocked(Struct, tag="stock", tag_field="kind", kw_only=True):
    """Units that came, or went; from when a supplier said so until a read showed it."""

    sku: str
    units: int
    called: int
    returned: int


class Read(Struct, tag="read", tag_field="kind", kw_only=True):
    """A reservation, read while others change it."""

    sku: str
    api: str
    reservation: str
    called: int
    returned: int
    told: dict[str, Any]


class Look(Struct, tag="look", tag_field="kind", kw_only=True):
    """A reservation, read when all calls on its SKU had ended; `told`: None if its order has none.

    `called`: when the last call on the SKU was sent, which the process that is read here has answered; `asked`: when
    the read itself was sent.
    """

    sku: str
    api: str
    order: str
    reservation: str
    called: int
    asked: int
    returned: int
    told: dict[str, Any] | None


class Decided(Struct, tag="decided", tag_field="kind", kw_only=True):
    """A fact of the log, in its place; named by its order, by reservation, action and key, or by a call without a key.

    So the checker has an order to try; it believes none.
    """

    sku: str
    action: str
    order: str
    reservation: str
    key: str
    call: int
    wall_ms: int


class Fault(Struct, tag="fault", tag_field="kind", kw_only=True):
    """What went wrong; for who reads the history."""

    at: int
    what: str


class Clock(Struct, tag="clock", tag_field="kind", kw_only=True):
    """What the monotonic clock says at a time of UTC."""

    at: int
    wall_ms: int


Record = Attempt | Stocked | Read | Look | Decided | Fault | Clock
_decode = msgspec.json.Decoder(Record).decode


def now() -> int:
    """The history's clock."""
    return time.monotonic_ns()


def clock() -> Clock:
    """The history's clock and UTC, at once."""
    return Clock(at=now(), wall_ms=time.time_ns() // 1_000_000)


def write(records: Iterable[Record], path: Path) -> None:
    """As a file."""
    with path.open("wb") as file:
        for record in records:
            file.write(msgspec.json.encode(record) + b"\n")


def read(path: Path) -> Iterator[Record]:
    """Of a file."""
    with path.open("rb") as file:
        for line in file:
            yield _decode(line)
