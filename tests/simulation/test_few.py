"""A few runs in this very process: what `mutmut` runs for each of its mutants."""

from __future__ import annotations

import pytest

from tests.simulation.run import Failure, quietly, try_seed


@pytest.mark.parametrize("first", range(0, 30, 10))
def test_ten_seeds_break_no_law(first: int) -> None:
    with quietly():
        outcomes = [try_seed(seed, shorten=False) for seed in range(first, first + 10)]
    assert not [str(failure) for failure in outcomes if isinstance(failure, Failure)]
