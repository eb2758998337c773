"""Letters once more: a feed's row through its mapping as it is now, a worker's message as it was.

Exactly once: a row gets the id that it would have had, so an update that is there already counts once, and one that was
overtaken by a newer statement of its supplier has no effect. Called by `command`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
from confluent_kafka import KafkaError, Message, Producer

from connectors.configuration.load import Feed
from connectors.formats.reader import read_again
from connectors.mapping.mapper import Mapper, Read
from connectors.runner.letters import HEAD, OBSERVED_AT, ORIGIN, RECEIVED_AT, ROW, STAGE, TRUNCATED
from schemas.admin import Deployed
from schemas.codec import Codec
from schemas.topics import UPDATES
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.dlq.letters import WAIT_S, Letter
from stockweave.errors import Rejected, Retriable


class Outcome(NamedTuple):
    """What came of letters. `left`: those that are of no use still, and why."""

    retried: list[Letter]
    left: list[tuple[Letter, str]]


def retry(
    letters: Sequence[Letter], feeds: Mapping[str, Feed], topics: Mapping[str, Deployed], bootstrap_servers: str,
    codec: Codec,
) -> Outcome:  # fmt: skip
    """Send letters again.

    Args:
        letters: to be sent.
        feeds: as they are configured now, by their whole names.
        topics: as deployed.
        bootstrap_servers: of their Kafka.
        codec: of StockUpdate.

    Raises:
        Retriable: Kafka does not take them; none counts as retried.
    """
    outcome = Outcome([], [])
    records: list[tuple[bytes | str | None, bytes | None]] = []
    mappers: dict[str, Mapper] = {}
    for letter in letters:
        if letter.stage != STAGE:
            records.append((letter.key, letter.original))
            outcome.retried.append(letter)
            continue
        try:
            batch = _mapped(letter, feeds, mappers)
        except Rejected as why:
            outcome.left.append((letter, str(why)))
            continue
        records += zip(batch.column("sku").to_pylist(), codec.encode_columns(batch), strict=True)
        outcome.retried.append(letter)
    _send(records, topics[UPDATES.name].name, bootstrap_servers)
    return outcome


def _mapped(letter: Letter, feeds: Mapping[str, Feed], mappers: dict[str, Mapper]) -> pa.RecordBatch:
    """The update of a feed's row, by the mapping as it is now."""
    feed = feeds.get(letter.feed)
    if feed is None:
        raise Rejected("unknown_feed", f"feed {letter.feed} is in no file that was named; name its file")
    if ROW not in letter.headers:
        raise Rejected("whole_document", "it is a whole document: have the feed read it again")
    if TRUNCATED in letter.headers or letter.original is None:
        raise Rejected("truncated", "not all of it was kept: have the feed read its document again")
    config = feed.config
    mapper = mappers.setdefault(letter.feed, Mapper(config.mapping, feed.supplier, feed.whole_name))
    number = pa.array([int(letter.told(ROW))], pa.int64())
    read = Read(letter.told(ORIGIN), int(letter.told(OBSERVED_AT)), int(letter.told(RECEIVED_AT)))
    for rows in read_again(letter.headers.get(HEAD, b""), letter.original, config.format, config.mapping.paths):
        if rows.broken:
            raise Rejected("malformed_row", rows.broken[0].detail)
        mapped = mapper.map(rows.columns, number, read)
        if mapped.faults:
            raise Rejected("invalid_row", "; ".join(fault.detail for fault in mapped.faults[0]))
        return mapped.updates
    raise Rejected("malformed_row", "there is no row in it; mend format")


def _send(records: Sequence[tuple[bytes | str | None, bytes | None]], topic: str, bootstrap_servers: str) -> None:
    if not records:
        return
    failed: list[str] = []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error.str())

    config = {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random", "linger.ms": 5}
    producer = Producer(client_config(bootstrap_servers) | config, logger=CLIENT_LOGGER)
    for key, value in records:
        producer.produce(topic, value, key, on_delivery=report)
        producer.poll(0)
    if producer.flush(WAIT_S) or failed:
        why = failed[0] if failed else "it does not answer"
        raise Retriable(f"Kafka at {bootstrap_servers} did not take all of it ({why}); retry them again")
