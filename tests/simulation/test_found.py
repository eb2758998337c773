"""What the simulation has found in the product, each as the few actions that showed it."""

from __future__ import annotations

import pytest

from tests.simulation.run import play, quietly, scheduled
from tests.simulation.scenario import Scenario
from tests.simulation.schedule import Action

SMALL = Scenario(
    partitions=1,
    workers=1,
    skus=4,
    events=40,
    batch_events_max=20,
    row_cache_bytes=6_000,
    horizon_ms=10 * 86_400_000,
    entries_max=256,
)


def played(seed: int, *actions: Action) -> None:
    """From when the worker serves its partition on; each fault has to be met."""
    with quietly():
        tally = play(seed, SMALL, [Action("run", "worker-0", 120), Action("run", "worker-0", 120), *actions])
    for action in actions:
        assert action.what != "fault" or tally.faults[f"{action.call}: {action.fault}"]


@pytest.mark.parametrize("seed", [2, 18])
def test_what_an_abort_takes_back_of_a_commit_that_was_reported_before_is_folded_again(seed: int) -> None:
    """Kafka lost the first commit's markers, so the second transaction was one with it, and both were undone."""
    played(
        seed,
        Action("feed", number=20),
        Action("fault", "worker-0", 1, "commit_transaction", "tear"),
        Action("feed", number=10),
        Action("fault", "worker-0", 1, "send_offsets_to_transaction", "abortable"),
    )


@pytest.mark.parametrize("seed", [2, 8, 11])
def test_a_transaction_that_kafka_left_hanging_ends_with_the_next_start_of_its_worker(seed: int) -> None:
    played(
        seed,
        Action("feed", number=20),
        Action("fault", "worker-0", 1, "commit_transaction", "tear"),
        Action("killed_anywhere", "worker-0", 0),
    )


@pytest.mark.parametrize("seed", [2, 18, 24, 34])
def test_dead_letters_that_kafka_left_hanging_are_seen_after_the_next_start_of_their_worker(seed: int) -> None:
    """Until then readers of committed dead letters stood still, unless the worker wrote another one."""
    played(
        seed,
        Action("feed", number=40),
        Action("run", "worker-0", 8),
        Action("fault", "worker-0", 2, "commit_transaction", "tear"),
    )


@pytest.mark.parametrize("seed", [943])
def test_a_line_that_is_asked_once_more_for_a_transfer_that_it_refused_refuses_it_again(seed: int) -> None:
    """It takes the whole of a drawn schedule, and a pool for which another view speaks meanwhile."""
    with quietly():
        play(seed, *scheduled(seed))


@pytest.mark.parametrize("seed", [232, 289])
def test_that_a_pool_is_oversold_no_more_is_told_of_all_of_it(seed: int) -> None:
    with quietly():
        play(seed, *scheduled(seed))


@pytest.mark.parametrize("seed", [1209])
def test_alerts_that_kafka_left_hanging_are_seen_after_the_next_start_of_their_worker(seed: int) -> None:
    """It takes the whole of a drawn schedule."""
    with quietly():
        play(seed, *scheduled(seed))
