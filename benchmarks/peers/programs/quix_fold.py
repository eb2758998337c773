"""Updates to rows on Quix Streams, exactly once. Arguments: BOOTSTRAP_SERVERS TOPIC GROUP STATE_DIR SCHEMA."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found,unused-ignore]
from rule import Decoder, apply  # type: ignore[import-not-found,unused-ignore]

bootstrap_servers, topic, group, state_dir, schema = sys.argv[1:]
app = Application(
    broker_address=bootstrap_servers,
    consumer_group=group,
    state_dir=state_dir,
    processing_guarantee="exactly-once",
    commit_interval=0.1,
    auto_offset_reset="earliest",
    producer_extra_config={"compression.type": "lz4", "linger.ms": 50},
    consumer_extra_config={"fetch.queue.backoff.ms": 5},
    loglevel="WARNING",
)
decode = Decoder(Path(schema))


def fold(value: bytes, state: Any) -> None:  # noqa: ANN401 - quix's State
    """Into the row of the key."""
    row = state.get("row") or {}
    if apply(row, decode(value)):
        state.set("row", row)


updates = app.topic(topic, key_deserializer="bytes", value_deserializer="bytes")
app.dataframe(updates).apply(fold, stateful=True)

if __name__ == "__main__":
    app.run()
