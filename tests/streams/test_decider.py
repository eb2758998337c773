"""The clock by which commands are decided."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from inventory.policies import Policies
from schemas.codec import Codec
from schemas.registry import FileRegistry
from state.database import Resources
from state.store import PartitionStore
from streams.decider import Asked, Decider

COMMANDS, FACTS = (Codec(name, FileRegistry()) for name in ("ReservationCommand", "ReservationFact"))


def test_the_decision_clock_never_goes_back(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20), "g")
    for clock_ms, expected in ((400, 500), (500, 500), (600, 600)):
        decider = Decider(COMMANDS, FACTS, Policies, partial(int, clock_ms))
        assert decider.decide(Asked(0, 500, 0), store, None).decided_at == expected
    store.close()
