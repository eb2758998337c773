"""What the simulation has found in the product, each as the few actions that showed it."""

from __future__ import annotations

from tests.simulation.run import play, quietly
from tests.simulation.schedule import Action
from tests.simulation.world import Scenario

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


def played(*actions: Action) -> None:
    with quietly():
        play(0, SMALL, list(actions))


def test_what_an_abort_takes_back_of_a_commit_that_was_reported_before_is_folded_again() -> None:
    """Kafka lost the first commit's markers, so the second transaction was one with it, and both were undone."""
    played(
        Action("feed", number=20),
        Action("fault", "worker-0", 1, "commit_transaction", "tear"),
        Action("feed", number=10),
        Action("fault", "worker-0", 1, "send_offsets_to_transaction", "abortable"),
    )


def test_a_transaction_that_kafka_left_hanging_ends_with_the_next_start_of_its_worker() -> None:
    played(
        Action("feed", number=20),
        Action("fault", "worker-0", 1, "commit_transaction", "tear"),
        Action("killed_anywhere", "worker-0", 0),
    )
