"""The clock by which commands are decided."""

from __future__ import annotations

from pathlib import Path

from inventory.policies import Policies
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.rows import Position
from state.database import Resources
from state.store import PartitionStore
from streams.batch import Part
from streams.decider import Asked, Decider

COMMANDS, FACTS = (Codec(name, FileRegistry()) for name in ("ReservationCommand", "ReservationFact"))


def test_the_decision_clock_never_goes_back(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "0", Resources(1 << 20, 1 << 20), "g")
    decider = Decider(COMMANDS, FACTS, Policies)
    for clock_ms, expected in ((400, 500), (500, 500), (600, 600)):
        part = Part(0, store, Position({}, {}, decided_at=500), [], at_ms=clock_ms)
        assert decider.decide(Asked(0, part.decision_ms, 0), store, None).decided_at == expected
    store.close()
