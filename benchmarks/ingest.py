"""From updates in Kafka to rows committed, exactly once: Stockweave beside its peers, over one and the same topic.

Each contestant has the machine, and a group and changelog of its own, and is watched from outside: from the moment that
its group has committed the base and the warm-up to the moment that it has committed all. The broker is not counted.
"""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.figures import machine
from benchmarks.fill import Filling, fill
from benchmarks.kafka import own_broker
from benchmarks.observe import Measured, Watch
from benchmarks.peers import kafka_streams, plain_faust, quix, stockweave_worker
from benchmarks.peers.contest import Contestant, Feed
from benchmarks.peers.kafka_streams import DOCUMENTED, FORMS, Variant
from benchmarks.profile import Profile, base_ends
from benchmarks.table import table
from inventory.digest import PartitionDigest
from schemas.admin import ensure_topics
from schemas.rows import StockRow, encode_row
from schemas.topics import UPDATES
from stockweave.children import last_lines
from stockweave.errors import Fatal

PARTITIONS = 4
PEERS = {
    kafka_streams.PEER: lambda: [kafka_streams.contestant(Variant(t, f)) for f in FORMS for t in (1, 2)],
    "quix": lambda: [quix.contestant()],
    "plain-faust": lambda: [plain_faust.contestant()],
}
OTHER_COLLECTORS = [Variant(1, form, collector) for form in FORMS for collector in ("g1", "serial")]
STOP_S = 30.0


def main(arguments: list[str]) -> int:
    """The command."""
    options = _options(arguments)
    contestants = [stockweave_worker.contestant(options.batch_events)]
    for peer in options.peers:
        contestants += PEERS[peer]()
    if options.tune:
        contestants += [kafka_streams.contestant(variant) for variant in OTHER_COLLECTORS]
    for contestant in contestants:
        contestant.prepare()
    print(machine())
    profile = Profile(skus=options.skus)
    measured: dict[str, list[Measured]] = {contestant.name: [] for contestant in contestants}
    with own_broker() as (broker, folder):
        feed = _fill(broker.bootstrap_servers, folder, profile, options.warm_up, options.events)
        digests: dict[str, str] = {}
        for run in range(1, options.runs + 1):
            for contestant in contestants:
                figures = _measure(contestant, feed, folder / f"{run}-{contestant.name.replace(', ', '-')}")
                measured[contestant.name].append(figures)
                said = f"{figures.per_second:,.0f} events/s, {figures.per_cpu_second:,.0f} per CPU-second"
                print(f"run {run}: {contestant.name}: {said}", flush=True)
                if contestant.rows is not None:
                    digests[f"{contestant.name}, run {run}"] = _digest(contestant.rows(feed))
        compared = _agreement(digests)
    rows = {name: _median(figures) for name, figures in measured.items()}
    print(_table(contestants, rows))
    print(compared)
    ratio, to_any = ratio_of(rows, DOCUMENTED), ratio_of(rows)
    if options.save:
        kept = {name: row._asdict() | _derived(row) for name, row in rows.items()}
        results.save("ingest", vars(options), {"contestants": kept, "ratio": ratio, "to_any": to_any})
    if ratio is not None:
        print(f"to Kafka Streams with codecs and rows written by hand for this profile: {to_any:.2f}")
        print(f"ratio={ratio:.2f}")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks ingest", description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000, help="measured, after base and warm-up")
    parser.add_argument("--warm-up", type=int, default=500_000, help="events of the mix before the measured part")
    parser.add_argument("--skus", type=int, default=100_000, help="with five sources each: the base is five times this")
    parser.add_argument("--runs", type=int, default=1, help="the median of the runs counts")
    parser.add_argument(
        "--peers", type=_peers, default=["kafka-streams"], help=f"of {','.join(PEERS)}; default: kafka-streams"
    )
    parser.add_argument("--batch-events", type=int, help="of Stockweave's transactions at most; default: its default")
    parser.add_argument("--tune", action="store_true", help="try kafka-streams with every garbage collector too")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/ingest.json")
    return parser.parse_args(arguments)


def _peers(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := sorted(set(names) - PEERS.keys()):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(PEERS)}")
    return names


def _fill(bootstrap_servers: str, folder: Path, profile: Profile, warm_up: int, events: int) -> Feed:
    prefix = f"bench-{uuid.uuid4().hex[:6]}."
    settings = stockweave_worker.settings_of(bootstrap_servers, prefix, PARTITIONS, folder)
    topic = ensure_topics(settings, bootstrap_servers)[UPDATES.name].name
    seconds = fill(Filling(bootstrap_servers, topic, PARTITIONS, profile, warm_up + events))
    warm = profile.base_events + warm_up
    print(
        f"{profile.base_events:,} first counts, {warm_up:,} updates to warm up and {events:,} to measure: "
        f"filled in {seconds:.0f} s",
        flush=True,
    )
    return Feed(bootstrap_servers, prefix, topic, PARTITIONS, base_ends(profile, PARTITIONS), warm, warm + events)


def _measure(contestant: Contestant, feed: Feed, folder: Path) -> Measured:
    folder.mkdir()
    started = contestant.start(feed, folder)
    watch = Watch(feed.bootstrap_servers, started.group, feed.topic, feed.partitions)
    try:
        return watch.measure(started.measure_from, started.measure_to, [started.process])
    except Fatal as why:
        said = "\n".join(last_lines(started.log, 10)) or "nothing"
        raise Fatal(f"{contestant.name}: {why}; it printed:\n{said}") from why
    finally:
        watch.close()
        started.process.terminate()
        started.process.wait(STOP_S)


def _digest(rows: Iterable[StockRow]) -> str:
    """Of what all rows mean, in the order of their SKUs."""
    digest = PartitionDigest()
    for row in sorted(rows, key=lambda row: row.sku):
        digest.add(row.sku.encode(), encode_row(row))
    return f"{digest.rows} rows, digest {digest.hexdigest()}"


def _agreement(digests: dict[str, str]) -> str:
    """One line that says so.

    Raises:
        Fatal: contestants made different rows of the same updates, so that no figure of theirs can be compared.
    """
    if len(set(digests.values())) > 1:
        raise Fatal("the rows differ, so the figures are void: " + "; ".join(f"{n}: {d}" for n, d in digests.items()))
    names = sorted({name.partition(",")[0] for name in digests}, reverse=True)
    return f"rows of {' and '.join(names)}{' agree' * (len(names) > 1)}: {next(iter(digests.values()))}"


def _median(figures: Sequence[Measured]) -> Measured:
    """The run that is the middle one by events per CPU-second."""
    return sorted(figures, key=lambda m: m.per_cpu_second)[(len(figures) - 1) // 2]


def _derived(row: Measured) -> dict[str, float]:
    names = ("per_second", "per_cpu_second", "commits_per_second", "events_per_commit")
    return {name: round(getattr(row, name), 1) for name in names}


def _table(contestants: Sequence[Contestant], rows: dict[str, Measured]) -> str:
    head = ["", "events", "events/s", "per CPU-s", "peak MB", "commits/s", "per commit", "guarantee"]
    lines = []
    for contestant in contestants:
        row = rows[contestant.name]
        figures = [row.events, row.per_second, row.per_cpu_second, row.peak_bytes / 1e6]
        commits = [row.commits_per_second, row.events_per_commit]
        lines.append([contestant.name, *(f"{figure:,.0f}" for figure in figures + commits), contestant.guarantee])
    return table(head, lines)


def ratio_of(rows: dict[str, Measured], form: str = "") -> float | None:
    """Stockweave's events per CPU-second to those of the best Kafka Streams; None where that took no part.

    Args:
        rows: of all contestants.
        form: of the rows in Kafka Streams, see `kafka_streams.FORMS`; empty for any.
    """
    prefix = f"{kafka_streams.PEER}, {form}"
    peers = [row.per_cpu_second for name, row in rows.items() if name.startswith(prefix)]
    return rows["stockweave"].per_cpu_second / max(peers) if peers else None
