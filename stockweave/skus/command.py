"""`stockweave skus`: what suppliers' SKUs are called with us; connectors follow each change."""

from __future__ import annotations

import csv
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from schemas.admin import ensure_topics, find_topics
from schemas.keys import id_problem
from schemas.sku_map import Entry
from schemas.topics import SKU_MAP
from stockweave.errors import Rejected
from stockweave.replay.session import kafka
from stockweave.settings import Settings
from stockweave.skus.file import COLUMNS, read_file
from stockweave.skus.table import Known, MapWriter, known_of

SHOWN_MAX = 10  # of what was changed, in words


@dataclass
class Change:
    """What an import comes to. `before`: what the changed and removed ones meant."""

    new: list[Entry] = field(default_factory=list)
    other: list[Entry] = field(default_factory=list)
    removed: list[Entry] = field(default_factory=list)
    before: dict[tuple[str, str], str] = field(default_factory=dict)
    same: int = 0

    @property
    def all(self) -> list[Entry]:
        """To be written."""
        return [*self.new, *self.other, *self.removed]


def show(settings: Settings, supplier: str | None, sku: str | None, limit: int, *, json: bool) -> None:
    """Print entries.

    Raises:
        Retriable: Kafka does not answer.
    """
    found = list(islice((each for each in _sorted(_known(settings), supplier) if sku in (None, each.sku)), limit))
    if json:
        sys.stdout.buffer.write(b"".join(orjson.dumps(each._asdict()) + b"\n" for each in found))
        return
    table = Table(*COLUMNS)
    for each in found:
        table.add_row(*(text or "" for text in each))
    Console().print(table if found else "there are none")


def export(settings: Settings, supplier: str | None) -> None:
    """Print entries as CSV, as `import_file` reads it.

    Raises:
        Retriable: Kafka does not answer.
    """
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_sorted(_known(settings), supplier))


def import_file(
    settings: Settings, path: Path, supplier: str | None, delimiter: str, *, replace: bool, json: bool
) -> None:
    """Take in what a file says, and print what that has changed.

    Args:
        settings: of the deployment.
        path: of the file.
        supplier: of all rows; None: each row says it.
        delimiter: between columns.
        replace: what the file does not name, of the suppliers that it names, is removed.
        json: one JSON object in place of words.

    Raises:
        Rejected: rows are at fault, each with its line; nothing was written.
        Retriable: Kafka does not answer; says what was written.
        Fatal: the file cannot be read, or another command has begun to write.
    """
    if supplier is not None:
        supplier = _id("supplier", supplier)
    given = read_file(path, supplier, delimiter)
    _tell(_change(settings, given, replace=replace), _shared(given), json=json)


def set_one(settings: Settings, entry: Entry, *, json: bool) -> None:
    """Give a supplier's SKU a meaning, or with `sku` None take it back.

    Raises:
        Rejected: an id is none, or there is nothing to be taken back.
        Retriable: Kafka does not answer.
        Fatal: another command has begun to write.
    """
    supplier_id = _id("supplier", entry.supplier_id)
    supplier_sku = _id("supplier SKU", entry.supplier_sku)
    if entry.sku is None:
        change = _change(settings, {}, remove=(supplier_id, supplier_sku))
        if not change.removed:
            raise Rejected("unknown_entry", f"{supplier_sku} of {supplier_id} is not in the map; see `skus list`")
    else:
        change = _change(settings, {supplier_id: {supplier_sku: _id("SKU", entry.sku)}})
    _tell(change, 0, json=json)


def _known(settings: Settings) -> Known:
    with kafka(settings, Console(stderr=True)) as connected:
        servers = connected.bootstrap_servers or ""
        topics = find_topics(connected, servers)
        return known_of(topics[SKU_MAP.name], servers) if SKU_MAP.name in topics else {}


def _change(
    settings: Settings, given: Known, *, replace: bool = False, remove: tuple[str, str] | None = None
) -> Change:
    with kafka(settings, Console(stderr=True)) as connected:
        servers = connected.bootstrap_servers or ""
        topics = ensure_topics(connected, servers)
        writer = MapWriter(connected)
        try:
            change = _compared(known_of(topics[SKU_MAP.name], servers), given, replace=replace, remove=remove)
            writer.write(change.all)
        finally:
            writer.close()
    return change


def _compared(held: Known, given: Known, *, replace: bool, remove: tuple[str, str] | None) -> Change:
    change = Change()
    for supplier_id, entries in given.items():
        known = held.get(supplier_id, {})
        for supplier_sku, sku in entries.items():
            before = known.get(supplier_sku)
            if before == sku:
                change.same += 1
            elif before is None:
                change.new.append(Entry(supplier_id, supplier_sku, sku))
            else:
                change.other.append(Entry(supplier_id, supplier_sku, sku))
                change.before[supplier_id, supplier_sku] = before
    gone = [remove] if remove is not None else []
    if replace:
        gone += [(each, sku) for each, entries in given.items() for sku in held.get(each, {}) if sku not in entries]
    for supplier_id, supplier_sku in gone:
        if (before := held.get(supplier_id, {}).get(supplier_sku)) is not None:
            change.removed.append(Entry(supplier_id, supplier_sku, None))
            change.before[supplier_id, supplier_sku] = before
    return change


def _tell(change: Change, shared: int, *, json: bool) -> None:
    counts = {"new": len(change.new), "changed": len(change.other), "removed": len(change.removed), "same": change.same}
    changed = [
        each._asdict() | {"before": change.before[each.supplier_id, each.supplier_sku]}
        for each in [*change.other, *change.removed]
    ]
    if json:
        sys.stdout.buffer.write(orjson.dumps(counts | {"shared": shared, "entries": changed}) + b"\n")
        return
    out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    out.print(
        f"{counts['new']} new, {counts['changed']} changed, {counts['removed']} removed, {counts['same']} as before"
    )
    for each in changed[:SHOWN_MAX]:
        out.print(f"{each['supplier_id']} {each['supplier_sku']}: {each['before']} -> {each['sku'] or 'nothing'}")
    if len(changed) > SHOWN_MAX:
        out.print(f"and {len(changed) - SHOWN_MAX} more; --json names all")
    if changed:
        out.print("what they meant before keeps the supplier's last statement until it is withdrawn")
    if shared:
        out.print(f"{shared} of our SKUs have several of one supplier's: the latest of these counts, not their sum")
    if change.new:
        out.print("rows that waited for them: `stockweave dlq retry --reason parked_sku`")


def _shared(given: Known) -> int:
    """SKUs of ours that several of one supplier's mean."""
    return sum(1 for entries in given.values() for n in Counter(entries.values()).values() if n > 1)


def _sorted(known: Known, supplier: str | None) -> Iterator[Entry]:
    for supplier_id in sorted(known):
        if supplier in (None, supplier_id):
            for supplier_sku, sku in sorted(known[supplier_id].items()):
                yield Entry(supplier_id, supplier_sku, sku)


def _id(what: str, given: str) -> str:
    found = unicodedata.normalize("NFC", given).strip()
    if problem := id_problem(found):
        raise Rejected("invalid_id", f"the {what} {problem}")
    return found
