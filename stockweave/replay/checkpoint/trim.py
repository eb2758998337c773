"""`stockweave checkpoint trim`: lets the log of updates begin at a checkpoint; what is below it is deleted in Kafka.

Invariant: nothing is deleted that the checkpoint does not stand for: it is of these very logs, its rows were proven to
be what the updates say by the present rules, its files were read whole just now, and the live rows are not behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from rich.console import Console

from schemas.admin import Deployed, find_generation, topics_in_use
from schemas.generation_log import read as read_generations
from schemas.topics import STOCK, UPDATES
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal, Retriable
from stockweave.meter import Meter
from stockweave.replay.checkpoint.load import Checkpoint
from stockweave.replay.checkpoint.lookup import covering, named
from stockweave.replay.ends import log_ends
from stockweave.replay.rebuild.plan import rules_digest
from stockweave.replay.rebuild.positions import offsets, positions
from stockweave.replay.session import kafka
from stockweave.settings import Settings

ANSWER_S = 30.0
AWAY = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)

Confirm = Callable[[str], None]
"""Asks whether to go on; raises when not."""


@dataclass(frozen=True)
class Cut:
    """What becomes of a partition: it has updates from `start` to `end`, and loses those below `offset`."""

    start: int
    offset: int
    end: int


def run(settings: Settings, name: str | None, confirm: Confirm, *, dry_run: bool) -> None:
    """The command: say on stdout what is deleted, and delete it.

    Raises:
        Fatal: the checkpoint is not one to rely on; nothing was deleted.
        Retriable: Kafka or the place does not answer; what was deleted is deleted, and the same command goes on.
    """
    notes, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
    )
    with kafka(settings, notes) as connected:
        topics = topics_in_use(connected, connected.bootstrap_servers or "")
        chosen = named(connected, topics, name) if name is not None else newest_proven(connected, topics)
        cuts = {number: cut for number, cut in planned(connected, topics, chosen).items() if cut.offset > cut.start}
        read_whole(chosen, notes)
        updates = topics[UPDATES.name].name
        for number, cut in cuts.items():
            out.print(
                f"{updates} partition {number}: {cut.offset - cut.start:,} offsets below {cut.offset:,} go, "
                f"{cut.end - cut.offset:,} stay"
            )
        deleted = sum(cut.offset - cut.start for cut in cuts.values())
        if not cuts:
            out.print(f"nothing to delete: {updates} begins at the checkpoint {chosen.name} or after it")
        elif dry_run:
            out.print(f"dry run: {deleted:,} offsets of updates below {chosen.name} would be deleted")
        else:
            confirm(
                f"{deleted:,} offsets of updates will be deleted for good. From then on only the checkpoint "
                f"{chosen.address} holds what they did: keep a copy of it.{_way_back(connected, cuts)}"
            )
            delete(connected, updates, {number: cut.offset for number, cut in cuts.items()})
            out.print(f"{updates} begins at the checkpoint {chosen.name}: {deleted:,} offsets were deleted")


def newest_proven(settings: Settings, topics: Mapping[str, Deployed]) -> Checkpoint:
    """The one that stands furthest of those that a log may be trimmed to.

    Raises:
        Fatal: there is none.
    """
    partitions = range(topics[UPDATES.name].partitions)
    found = covering(settings, topics, dict.fromkeys(partitions, 0), None, lambda m: m.proof is not None)
    if found is None:
        raise Fatal(
            "no checkpoint of this deployment is verified; make one with `stockweave checkpoint create --verify`"
        )
    return found


def planned(settings: Settings, topics: Mapping[str, Deployed], chosen: Checkpoint) -> dict[int, Cut]:
    """What trimming to a checkpoint does to each partition.

    Raises:
        Fatal: it is not verified by the present rules, is ahead of the live rows, or a rebuild still needs the updates.
    """
    bootstrap, proof = settings.bootstrap_servers or "", chosen.manifest.proof
    again = "make a new one with `stockweave checkpoint create --verify`"
    if proof is None:
        raise Fatal(
            f"the checkpoint {chosen.name} is not verified, so the updates are still needed to prove it; {again}"
        )
    if proof.rules != rules_digest(settings):
        raise Fatal(
            f"the checkpoint {chosen.name} was verified by other rules (code, or STOCKWEAVE_HORIZON_MS and "
            f"STOCKWEAVE_ENTRIES_MAX) than the present ones; {again}"
        )
    candidate = read_generations(settings, bootstrap).candidate
    if candidate is not None:
        raise Fatal(
            f"generation {candidate.number} is being rebuilt and may need the updates; go on with `stockweave rebuild` "
            "first, or give it up with `--discard`"
        )
    partitions = range(topics[STOCK.name].partitions)
    live = offsets(positions(bootstrap, topics[STOCK.name].name, partitions), partitions)
    cuts = {}
    for number, (low, high) in log_ends(bootstrap, topics[UPDATES.name].name, partitions).items():
        offset = chosen.manifest.partitions[number].offset
        if offset > live[number]:
            raise Fatal(
                f"partition {number}: the checkpoint {chosen.name} stands at offset {offset}, and the live rows at "
                f"{live[number]}: workers still need the updates between; wait for them, or if the rows were lost, "
                f"bring them back (`stockweave checkpoint restore {chosen.name}`)"
            )
        cuts[number] = Cut(low, offset, high)
    return cuts


def read_whole(chosen: Checkpoint, notes: Console) -> None:
    """Read every row of a checkpoint.

    Raises:
        Fatal: it is damaged.
        Retriable: its place does not answer.
    """
    with Meter(notes, "reading the checkpoint", chosen.manifest.rows, "rows") as meter:
        for part in chosen.manifest.partitions:
            for group in chosen.groups(part.partition):
                meter.advance(len(group))


def delete(settings: Settings, topic: str, below: Mapping[int, int]) -> None:
    """Delete what a topic has below these offsets.

    Raises:
        Fatal: Kafka refuses.
        Retriable: it does not answer.
    """
    admin = AdminClient(client_config(settings.bootstrap_servers or ""), logger=CLIENT_LOGGER)
    wanted = [TopicPartition(topic, number, offset) for number, offset in below.items()]
    for partition, deleted in admin.delete_records(wanted, request_timeout=ANSWER_S).items():
        try:
            deleted.result()
        except KafkaException as error:
            why = error.args[0]
            said = f"updates of {topic} partition {partition.partition} are not deleted: {why.str()}"
            if why.retriable() or why.code() in AWAY:
                raise Retriable(f"{said}; run it again") from error
            raise Fatal(f"{said}; grant the right to delete records of it, and run it again") from error


def _way_back(settings: Settings, cuts: Mapping[int, Cut]) -> str:
    """What is said of the generation before, if going back to it would take updates that go."""
    bootstrap = settings.bootstrap_servers or ""
    previous = read_generations(settings, bootstrap).previous
    if previous is None:
        return ""
    if find_generation(settings, bootstrap, previous) is None:
        return ""
    found = positions(bootstrap, previous.topic, list(cuts))
    if all(offset >= cuts[number].offset for number, offset in offsets(found, list(cuts)).items()):
        return ""
    return f" The way back to generation {previous.number} (`stockweave rebuild --back`) is then closed."
