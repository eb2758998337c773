"""The map of SKUs read from Kafka at once, and changes of it written. Used by `command` and by `stockweave dlq retry`.

A change is a transaction of at most `AT_ONCE` entries, by one command at a time: another that begins to write ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from connectors.mapping.sku_map import SkuMap
from connectors.runner.skus import entries
from schemas.admin import Deployed
from schemas.sku_map import Entry, record
from schemas.topics import SKU_MAP
from stockweave.errors import Fatal, Retriable
from stockweave.replay.facts import everything
from stockweave.settings import Settings
from stockweave.writer import Produce, Writer

AT_ONCE = 200_000
TAKEN_OVER = "another `stockweave skus` has begun to write meanwhile"

Known = dict[str, dict[str, str]]
"""Our SKU by supplier and by the supplier's SKU."""


def known_of(topic: Deployed, bootstrap_servers: str) -> Known:
    """All entries as of now.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: the topic is gone, or may not be read.
    """
    known: Known = {}
    messages = everything(bootstrap_servers, topic.name, range(topic.partitions), "entries")
    for supplier_id, supplier_sku, sku in entries(messages):
        of_supplier = known.setdefault(supplier_id, {})
        if sku is None:
            of_supplier.pop(supplier_sku, None)
        else:
            of_supplier[supplier_sku] = sku
    return known


def sku_map(topic: Deployed, bootstrap_servers: str) -> SkuMap:
    """Likewise, to be mapped by."""
    found = SkuMap()
    found.change(entries(everything(bootstrap_servers, topic.name, range(topic.partitions), "entries")))
    return found


class MapWriter:
    """The only writer of the map; on one thread.

    Args:
        settings: `bootstrap_servers` answers, and the topic is there.

    Raises:
        Retriable: Kafka does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.topic(SKU_MAP.name)
        self._writer = Writer(settings, SKU_MAP.name, "sku-map", TAKEN_OVER)
        self._writer.take_over()

    def write(self, changes: Sequence[Entry]) -> None:
        """Returns once Kafka has all of them.

        Raises:
            Retriable, Fatal: not all of them are written; says how many are.
        """
        written = 0
        try:
            for written in range(0, len(changes), AT_ONCE):
                self._writer.commit(partial(self._produce, changes[written : written + AT_ONCE]))
        except (Retriable, Fatal) as why:
            said = f"{why}; {written} of {len(changes)} changes are written, do it again for the others"
            raise type(why)(said) from why

    def close(self) -> None:
        """Write no more."""
        self._writer.close()

    def _produce(self, changes: Sequence[Entry], produce: Produce) -> None:
        for entry in changes:
            key, value = record(entry)
            produce(self._topic, value, key, 0)
