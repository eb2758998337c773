"""Hostile messages and schemas by the thousand, each kind in a child process that may not crash, hang or grow."""

from __future__ import annotations

import pytest

from tests.fuzz.one import child

SEED = 20_261_121


@pytest.mark.parametrize(("kind", "cases"), [("bodies", 4_000), ("schemas", 4_000), ("fold", 2_500)])
def test_whatever_a_message_holds_it_is_decoded_or_rejected_and_spares_its_neighbours(kind: str, cases: int) -> None:
    assert child(kind, SEED, cases).cases >= cases
