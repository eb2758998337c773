"""`stockweave checkpoint list`: which checkpoints there are, what they hold, and whether they can be gone on from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from rich.console import Console
from rich.filesize import decimal

from schemas.admin import Deployed, topics_in_use
from stockweave.errors import Fatal, StockweaveError
from stockweave.replay.checkpoint.load import Checkpoint
from stockweave.replay.checkpoint.lookup import all_of
from stockweave.replay.checkpoint.place import Place, default_address
from stockweave.replay.session import kafka
from stockweave.replay.verify.report import iso
from stockweave.settings import Settings

Listed = Checkpoint | Fatal
HEADINGS = ("name", "created", "rows", "size", "generation", "updates up to", "verified", "fits")
RIGHT = range(2, 6)  # the columns of figures


def run(settings: Settings, *, json: bool) -> None:
    """The command; where no Kafka is found, it is not told which fit.

    Raises:
        Fatal: the place cannot be read.
        Retriable: it does not answer.
    """
    notes, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
    )
    place = Place(default_address(settings))
    facts = _facts(settings, notes)
    listed = list(all_of(place))
    unfinished = place.names()[1]
    if json:
        data = {
            "place": place.address,
            "checkpoints": [as_json(name, found, facts) for name, found in listed],
            "unfinished": unfinished,
        }
        out.print_json(data=data, indent=None)
        return
    if listed:
        for line in lines(listed, facts):
            out.print(line)
    else:
        out.print(f"no checkpoint in {place.address}; `stockweave checkpoint create` makes one")
    for name in unfinished:
        out.print(
            f"unfinished: {place.address_of(name)} (it is being made, or what made it died: then delete the folder)"
        )


def as_json(name: str, found: Listed, facts: Mapping[str, Deployed] | None) -> dict[str, Any]:
    """For programs; times in ms since the epoch. `fits` is None where it is not known."""
    if isinstance(found, Fatal):
        return {"name": name, "damaged": str(found)}
    manifest = found.manifest
    return {
        "name": name,
        "created_at": manifest.created_at,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "generation": manifest.generation,
        "updates": updates_of(found),
        "verified": None if manifest.proof is None else msgspec.to_builtins(manifest.proof),
        "fits": None if facts is None else manifest.stranger(facts) is None,
        "stranger": None if facts is None else manifest.stranger(facts),
        "partitions": [
            {
                "partition": p.partition,
                "file": p.file,
                "rows": p.rows,
                "bytes": p.bytes,
                "sha256": p.sha256,
                "digest": p.digest,
                "updates_offset": p.offset,
                "newest_at": p.newest_at,
            }
            for p in manifest.partitions
        ],
    }


def made_line(made: Checkpoint, seconds: float) -> str:
    """What was made."""
    manifest = made.manifest
    if manifest.proof is None:
        proof = "not compared with the updates (--verify does so)"
    else:
        begin = manifest.proof.begin
        proof = f"{manifest.proof.updates:,} updates were folded again{f' from {begin} on' if begin else ''}: 0 differ"
    return (
        f"checkpoint {made.name} is in {made.place.address}: {manifest.rows:,} rows of {updates_of(made):,} updates in "
        f"{len(manifest.partitions)} partitions, {decimal(manifest.bytes)}, read back the same in {seconds:.1f} s; "
        f"{proof}"
    )


def updates_of(found: Checkpoint) -> int:
    """The sum of the offsets of updates that its partitions stand at."""
    return sum(p.offset for p in found.manifest.partitions)


def _facts(settings: Settings, notes: Console) -> dict[str, Deployed] | None:
    try:
        with kafka(settings, notes) as connected:
            return topics_in_use(connected, connected.bootstrap_servers or "")
    except StockweaveError as error:  # what is kept for the day that Kafka is lost can be listed on that day
        notes.print(f"which of them fit is not known: {error}", markup=False)
        return None


def lines(listed: list[tuple[str, Listed]], facts: Mapping[str, Deployed] | None) -> Iterator[str]:
    """A table, and below it why some do not fit or cannot be read."""
    table = [HEADINGS]
    below = []
    for name, found in listed:
        if isinstance(found, Fatal):
            below.append(f"{name}: {found}")
            continue
        manifest = found.manifest
        stranger = None if facts is None else manifest.stranger(facts)
        if stranger is not None:
            below.append(f"{name} does not fit: {stranger}")
        verified = "no" if manifest.proof is None else iso(manifest.proof.at)
        fits = "?" if facts is None else "yes" if stranger is None else "no"
        counts = f"{manifest.rows:,}", decimal(manifest.bytes), str(manifest.generation), f"{updates_of(found):,}"
        table.append((name, iso(manifest.created_at), *counts, verified, fits))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        yield "  ".join(
            cell.rjust(width) if i in RIGHT else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()
    yield from below
