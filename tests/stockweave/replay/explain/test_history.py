"""Laws of folding one by one: each update's outcome and reason, where what is held came from, and bounded memory."""

from __future__ import annotations

import pytest

from inventory.stock import Limits, StockUpdate
from schemas.rows import OUTCOMES
from stockweave.replay.explain.history import UNHELD_MAX, Trace
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.stockweave.replay.explain.messages import LOGGED_MS, accounts_of, explained, history_of, logged
from tests.stockweave.replay.explain.told import awkward_updates

COUNTED_MS = 1_700_000_000_000
CONFLICT = "used for another update of the same source; give each its own"


def count(name: str = "c", at: int = 0, quantity: int = 50) -> StockUpdate:
    return update(Event("COUNT", name, COUNTED_MS + at, quantity))


def delta(name: str, at: int, quantity: int = -1) -> StockUpdate:
    return update(Event("DELTA", name, COUNTED_MS + at, quantity))


@pytest.mark.parametrize(
    ("late", "outcome", "why"),
    [
        (count("b", -1), "superseded", "observed before the count 'c' of 2023-11-14T22:13:20.000Z"),
        (delta("d", -1), "superseded", "observed before the count 'c' of 2023-11-14T22:13:20.000Z"),
        (delta("d", 0), "superseded", "observed at the time of the count 'c', which holds it already"),
        (count("b", 0), "superseded", "observed at the time of the count 'c', whose id is the greater and wins"),
        (count(), "duplicate", "the same update_id, kind, time and quantity as the one at offset 7"),
        (
            count("c", 0, 51),
            "rejected",
            f"its update_id was {CONFLICT}",
        ),
        (delta("z", 5, 0), "rejected", "quantity of a DELTA is 0; send only changes"),
    ],
)
def test_why_an_update_changed_nothing_is_told(late: StockUpdate, outcome: str, why: str) -> None:
    history = history_of([count(), late], first=7)
    [refused] = history.refused
    assert (refused.offset, refused.stamp_ms, refused.outcome, refused.why) == (8, LOGGED_MS + 8, outcome, why)
    assert refused.update == late
    assert history.outcomes == [1, *(int(outcome == o) for o in OUTCOMES[1:])]


def test_what_a_withdrawal_holds_is_told_as_such() -> None:
    history = history_of([update(Event("WITHDRAWN", "w", COUNTED_MS)), delta("d", -1)])
    assert history.refused[0].why.startswith("observed before the withdrawal 'w' of")


def test_what_cannot_be_read_is_told_without_an_update() -> None:
    history = history_of([b"?", update(Event("COUNT", "c", COUNTED_MS, 1), sku="sku-2")])
    assert [(r.update is None, r.outcome, r.reason) for r in history.refused] == [
        (True, "rejected", "not_framed"),
        (False, "rejected", "key_is_not_sku"),
    ]
    assert history.row is None


def test_the_offset_is_that_of_the_update_that_stands() -> None:
    """Of a repeat the first; of an id that was used again with another content, the one that replaced the other."""
    history = history_of([count(), delta("d", 5), delta("d", 5), delta("e", 6), delta("e", 6, -2)])
    [account] = accounts_of(explained(history))
    assert account.count is not None
    assert account.count.trace == Trace(0, LOGGED_MS, COUNTED_MS)
    assert [(d.id, d.quantity, d.trace and d.trace.offset) for d in account.deltas] == [("d", -1, 1), ("e", -2, 4)]


def test_after_a_checkpoint_an_offset_is_told_where_the_row_leaves_no_doubt() -> None:
    alone, several = history_of([count()]).row, history_of([count(), delta("d", 5)]).row
    for seed, since, known in (
        (alone, [], [0]),
        (alone, [delta("e", 9)], [0, 10]),
        (several, [], [None, None]),
        (several, [delta("e", 9)], [None, None, 10]),
        (several, [count("c2", 7)], [10]),
    ):
        history = history_of(since, seed=seed, first=10)
        [account] = accounts_of(explained(history))
        assert account.count is not None
        assert [e.trace and e.trace.offset for e in (account.count, *account.deltas)] == known


def test_of_a_busy_sku_no_more_is_kept_than_its_row_holds_and_what_is_shown() -> None:
    updates = awkward_updates(8_000, skus=1)
    for one in updates:
        one["sku"] = "sku-1"
    limits = Limits(entries_max=6)
    history = history_of([], refused_max=20, limits=limits)
    kept = 0
    for first in range(0, len(updates), 500):
        history.take(logged(updates[first : first + 500], first))
        kept = max(kept, len(history._traces))
    assert sum(history.outcomes) == 8_000
    assert sum(history.outcomes[1:]) > 500
    assert history.outcomes[0] > 2 * UNHELD_MAX
    assert len(history.refused) == 20
    assert kept <= UNHELD_MAX + 2 * 4 * 7
    told = accounts_of(explained(history))
    assert told
    for account in told:  # and all that it holds is still told
        assert account.count is None or account.count.trace is not None
        assert all(entry.trace is not None for entry in account.deltas)
