"""The rows of a generation as they are now, read from its compacted topic while workers go on writing it.

Invariant: the rows and the position of a partition are of one moment. An end-of-partition event stands at the last
stable offset, below which every transaction is whole, so a store that has read up to exactly such an event holds the
rows of its position and nothing after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from state.follower import Follower, open_consumer
from state.store import PartitionStore
from stockweave.errors import Retriable
from stockweave.replay.facts import STALLED_S, log_ends

RECORDS_MAX = 20_000
STEP_WAIT_S = 0.2


def read_live(
    bootstrap_servers: str,
    topic: str,
    stores: Mapping[int, PartitionStore],
    on_records: Callable[[int], None] = lambda _: None,
) -> dict[int, int]:
    """Follow `topic` into `stores`, each to the end that the partition has now, or a later one.

    The position of a partition is afterwards its store's `position`, None where nothing was ever folded.

    Args:
        bootstrap_servers: of Kafka.
        topic: the deployed name of a generation's topic.
        stores: by partition; they stay the caller's to close.
        on_records: told how many records each step brought.

    Returns:
        The offset in `topic` that each partition was read up to.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: the topic is gone or may not be read.
    """
    # The high watermark, from a client that reads uncommitted data too: a read_committed one is told the last stable
    # offset, which may lag behind rows that are committed already (see streams/restore.py).
    targets = {number: high for number, (_, high) in log_ends(bootstrap_servers, topic, list(stores)).items()}
    ended: dict[int, int] = {}
    follower = Follower(open_consumer(bootstrap_servers, topic), topic)
    try:
        for number, store in stores.items():
            follower.add(number, store, time.time_ns() // 1_000_000)
        heard_at_s = time.monotonic()
        while len(ended) < len(stores):
            records = follower.step(RECORDS_MAX, STEP_WAIT_S)
            on_records(records)
            if records:
                heard_at_s = time.monotonic()
            elif time.monotonic() - heard_at_s > STALLED_S:
                waiting = sorted(set(stores) - set(ended))
                raise Retriable(
                    f"{topic} has brought nothing for {STALLED_S:.0f} s, and partitions {waiting} are not at their "
                    f"end; is Kafka at {bootstrap_servers} well, or a transaction left open?"
                )
            for number, store in stores.items():
                at = -1 if number in ended else follower.ended_at(number)
                # A step may have read past the event, into the middle of a transaction: then the next event counts.
                if at >= targets[number] and store.mark.next_offset == at:
                    ended[number] = at
                    follower.remove(number)
    finally:
        follower.close()
    return ended
