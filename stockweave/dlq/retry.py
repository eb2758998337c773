"""Letters once more: a feed's row through its mapping as it is now, a worker's message as it was.

Exactly once: a row gets the id that it would have had, so an update that is there already counts once, and one that was
overtaken by a newer statement of its supplier has no effect. Called by `command`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from connectors.configuration.load import Feed
from connectors.credentials.secret import ready
from connectors.mapping.mapper import Mapper
from connectors.mapping.sku_map import SkuMap
from connectors.runner.again import once_more
from connectors.runner.letters import CONNECTOR
from schemas.admin import Deployed
from schemas.codec import Codec
from schemas.topics import UPDATES
from stockweave.clients import send_all
from stockweave.dlq.letters import Letter
from stockweave.errors import Rejected


class Outcome(NamedTuple):
    """What came of letters. `left`: those that are of no use still, and why."""

    retried: list[Letter]
    left: list[tuple[Letter, str]]


def retry(
    letters: Sequence[Letter], feeds: Mapping[str, Feed], topics: Mapping[str, Deployed], bootstrap_servers: str,
    codec: Codec, skus: SkuMap | None = None,
) -> Outcome:  # fmt: skip
    """Send letters again.

    Args:
        letters: to be sent.
        feeds: as they are configured now, by their whole names.
        topics: as deployed.
        bootstrap_servers: of their Kafka.
        codec: of StockUpdate.
        skus: the map, where a feed maps by it.

    Raises:
        Retriable: Kafka does not take them; none counts as retried.
    """
    outcome = Outcome([], [])
    records: list[tuple[bytes | str | None, bytes | None]] = []
    mappers: dict[str, Mapper] = {}
    for letter in letters:
        if letter.stage != CONNECTOR:
            records.append((letter.key, letter.original))
            outcome.retried.append(letter)
            continue
        try:
            batch = _mapped(letter, feeds, mappers, skus)
        except Rejected as why:
            outcome.left.append((letter, str(why)))
            continue
        records += zip(batch.column("sku").to_pylist(), codec.encode_columns(batch), strict=True)
        outcome.retried.append(letter)
    if records:
        send_all(bootstrap_servers, topics[UPDATES.name].name, records)
    return outcome


def _mapped(
    letter: Letter, feeds: Mapping[str, Feed], mappers: dict[str, Mapper], skus: SkuMap | None
) -> pa.RecordBatch:
    """The update of a feed's row, by the mapping as it is now."""
    feed = feeds.get(letter.feed)
    if feed is None:
        raise Rejected("unknown_feed", f"feed {letter.feed} is in no file that was named; name its file")
    if (mapper := mappers.get(letter.feed)) is None:
        known = None if skus is None else skus.of(feed.supplier)
        asyncio.run(ready(feed.config))  # a format may want a secret
        mapper = mappers[letter.feed] = Mapper(feed.config.mapping, feed.supplier, feed.whole_name, known)
    return once_more(letter.headers, letter.original, feed, mapper)
