"""Evaluates the rows of a batch that may have crossed into another alert state, and makes the alerts of those that did.

A state is written with its row, and its alert in the same transaction: so a crossing is told once, whatever is aborted
or dies. Called by `streams.batch` once a part is decided and folded, and by `streams.passes` for what no batch changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from inventory.alerts import TIMED, UNKNOWN, Crossing, State, Sure, evaluate, state_of, sure, time_matters
from inventory.policies import Policies, Rules
from inventory.reservations.reallocation import Shortage, shortage
from schemas import keys
from schemas.codec import Codec
from schemas.keys import SOURCE_SEPARATOR
from schemas.rows import PackedRow, Position, decode_packed_row, decode_row, encode, unpacked
from state.store import PartitionStore

ID_BYTES = 16


class Raised(NamedTuple):
    """An alert on its way: key and value of its record."""

    kind: str
    key: bytes
    value: bytes


class Looked(NamedTuple):
    """What came of rows that may have crossed.

    `rows`: those whose state is another, encoded anew, by key. `at`: the decision clock by which it was found, in ms.
    `timed`: time alone may change one of them. `short`: keys of rows some source of which has less than is held of it.
    """

    rows: dict[bytes, bytes]
    raised: list[Raised]
    at: int
    timed: bool
    short: list[bytes]


class Alerts:
    """Of one worker.

    Args:
        codec: of StockAlert.
        policies: those that hold now.
        now_ms: the machine's clock.
    """

    def __init__(self, codec: Codec, policies: Callable[[], Policies], now_ms: Callable[[], int]) -> None:
        self._codec = codec
        self._policies = policies
        self._now_ms = now_ms
        self._known: Policies | None = None
        self._sure = Sure(0, {})
        self._time_matters = False

    def sure(self) -> Sure:
        """Which rows need not be looked at."""
        self._learn()
        return self._sure

    @property
    def revision(self) -> int:
        """Of the policies that hold now."""
        return self._policies().revision

    @property
    def time_matters(self) -> bool:
        """Whether any source may become stale by a policy."""
        self._learn()
        return self._time_matters

    def has_crossed(self, key: bytes, row: PackedRow, position: Position) -> bool:
        """Whether a row, which nothing changes, is by now in another state than it says."""
        if self.sure().holds(key, row):
            return False
        before = state_of(row)
        return evaluate(unpacked(row), self._rules(row), self._at(position), before)[0] != before

    def look(
        self,
        store: PartitionStore,
        changed: Mapping[bytes, bytes],
        doubtful: Iterable[bytes],
        position: Position,
        *,
        quiet: bool = False,
    ) -> Looked:
        """Evaluate rows.

        Args:
            store: with the rows as they were before the batch.
            changed: rows that it changed, by key.
            doubtful: keys of those that may have crossed, changed or not.
            position: once the batch is in.
            quiet: tell nobody; the states are taken over all the same.
        """
        at = self._at(position)
        found = Looked({}, [], at, timed=False, short=[])
        timed = False
        for key in dict.fromkeys(doubtful):
            value = changed.get(key)
            row_bytes = store.get(key) if value is None else value
            if row_bytes is None:
                continue
            row = decode_packed_row(row_bytes)
            rules, before = self._rules(row), state_of(row)
            if before.alert == UNKNOWN and value is not None:
                before = self._before(store.get(key), rules, at)
            after, crossings = evaluate(unpacked(row), rules, at, before)
            timed = timed or bool(after.alert & TIMED)
            if after.oversold:
                found.short.append(key)
            if after != state_of(row):
                row.alert, row.oversold = after.alert, list(after.oversold)
                found.rows[key] = encode(row)
            where = _place(position, None if value is not None else at)
            for crossing in () if quiet else crossings:
                found.raised.append(self._raised(row.sku, crossing, rules, at, where))
        return found._replace(timed=timed)

    def shortage(self, row: bytes, position: Position) -> Shortage | None:
        """As `inventory.reservations.reallocation`'s, of a stored row."""
        return shortage(decode_row(row), self._policies(), self._at(position))

    def _before(self, stored: bytes | None, rules: Rules, at: int) -> State:
        """The state of a row that was never looked at: what it would have been before this batch."""
        if stored is None:
            return State()
        return evaluate(unpacked(decode_packed_row(stored)), rules, at, State())[0]

    def _raised(self, sku: str, crossing: Crossing, rules: Rules, at: int, where: str) -> Raised:
        supplier, _, location = (crossing.source or "").partition(SOURCE_SEPARATOR)
        revision = self.revision
        named = "\n".join((sku, crossing.source or "", crossing.state, crossing.previous, where, str(revision)))
        record = {
            "alert_id": hashlib.blake2b(named.encode(), digest_size=ID_BYTES).hexdigest(),
            "sku": sku,
            "state": crossing.state,
            "previous": crossing.previous,
            "available": crossing.available,
            "at": at,
            "kind": crossing.kind,
            "supplier_id": supplier or None,
            "location_id": location or None,
            "on_hand": crossing.on_hand,
            "held": crossing.held,
            "low_stock_units": rules.low_stock_units or None,
            "policy_revision": revision,
        }
        return Raised(crossing.kind, sku.encode(), self._codec.encode(record))

    def _rules(self, row: PackedRow) -> Rules:
        return self._policies().rules(row.sku)

    def _at(self, position: Position) -> int:
        return max(self._now_ms(), position.decided_at)  # a source that was stale by another's clock stays so

    def _learn(self) -> None:
        policies = self._policies()
        if policies is not self._known:
            self._known, self._sure, self._time_matters = policies, sure(policies), time_matters(policies)


def rows_among(changed: Iterable[bytes]) -> list[bytes]:
    """The keys of rows."""
    return [key for key in changed if key >= keys.ROW_FIRST]


def _place(position: Position, at: int | None) -> str:
    """What tells one crossing of a SKU from every other one, in whichever generation of the rows it was found.

    Whatever changes a row moves one of these numbers; where nothing did, it was time, or a policy.
    """
    return f"{sorted(position.offsets.items())} {position.facts} {at}"
