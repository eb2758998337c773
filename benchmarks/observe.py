"""Watches a consumer from outside: what its group has committed, and what its processes have spent until then.

Nothing of what is measured knows of it. A look costs the broker one small request, and the processes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from subprocess import Popen
from typing import NamedTuple

import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from benchmarks.kafka import NOT_YET, commit_times_ms
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal

LOOK_EVERY_S = 0.05
STALLED_S = 120.0
ANSWER_S = 10.0


class Sample(NamedTuple):
    """One look. `at_s`: since the epoch; `cpu_s`: of all threads since the start; `rss_bytes`: of all processes."""

    at_s: float
    committed: int
    cpu_s: float
    rss_bytes: int


class Measured(NamedTuple):
    """What was done between two looks. `commits`: of the group; `peak_bytes`: resident."""

    events: int
    seconds: float
    cpu_s: float
    peak_bytes: int
    commits: int

    @property
    def per_second(self) -> float:
        """Events."""
        return self.events / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Events per second of processor time, of all threads."""
        return self.events / self.cpu_s

    @property
    def commits_per_second(self) -> float:
        """Of the group."""
        return self.commits / self.seconds

    @property
    def events_per_commit(self) -> float:
        """The mean."""
        return self.events / max(1, self.commits)


class Watch:
    """Reads the committed offsets of `group` on `topic`."""

    def __init__(self, bootstrap_servers: str, group: str, topic: str, partitions: int) -> None:
        self._group = group
        self._committed = 0
        self._bootstrap_servers = bootstrap_servers
        self._places = [TopicPartition(topic, number) for number in range(partitions)]
        # read_uncommitted: else the answer waits for the transaction that is open.
        config = client_config(bootstrap_servers) | {"group.id": group, "isolation.level": "read_uncommitted"}
        self._consumer = Consumer(config, logger=CLIENT_LOGGER)

    def committed(self) -> int:
        """Events of all partitions; a partition without an offset counts as none.

        While the group's coordinator is being found, it is what it was.
        """
        try:
            places = self._consumer.committed(self._places, ANSWER_S)
        except KafkaException as raised:
            if raised.args[0].code() not in NOT_YET:
                raise Fatal(f"the offsets of {self._group} cannot be read: {raised.args[0].str()}") from raised
        else:
            self._committed = sum(max(0, place.offset) for place in places)
        return self._committed

    def until(self, events: int, processes: Sequence[Popen[bytes]]) -> list[Sample]:
        """Look until `events` are committed.

        Raises:
            Fatal: a process ended, or nothing was committed for two minutes.
        """
        watched = [psutil.Process(process.pid) for process in processes]
        samples: list[Sample] = []
        moved_at_s, committed = time.monotonic(), -1
        while committed < events:
            for process in processes:
                if process.poll() is not None:
                    raise Fatal(f"process {process.pid} ended with {process.returncode} before it had committed all")
            before = committed
            committed = self.committed()
            times = [process.cpu_times() for process in watched]
            cpu_s = sum(t.user + t.system for t in times)
            samples.append(Sample(time.time(), committed, cpu_s, sum(p.memory_info().rss for p in watched)))
            now_s = time.monotonic()
            moved_at_s = now_s if committed != before else moved_at_s
            if now_s - moved_at_s > STALLED_S:
                raise Fatal(f"{self._group} has committed nothing for {STALLED_S:.0f} s at {committed:,} of {events:,}")
            if committed < events:
                time.sleep(LOOK_EVERY_S)
        return samples

    def measure(self, first: int, last: int, processes: Sequence[Popen[bytes]]) -> Measured:
        """From the look that first finds `first` events committed to the one that finds `last`."""
        began, ended, peak_bytes = span(self.until(last, processes), first, last)
        times_ms = commit_times_ms(self._bootstrap_servers, self._group)
        commits = sum(began.at_s * 1e3 < at <= ended.at_s * 1e3 for at in times_ms)
        events, seconds = ended.committed - began.committed, ended.at_s - began.at_s
        return Measured(events, seconds, ended.cpu_s - began.cpu_s, peak_bytes, commits)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()


def span(samples: Sequence[Sample], first: int, last: int) -> tuple[Sample, Sample, int]:
    """The first sample that has `first` events, the first that has `last`, and the peak of resident memory until then.

    Raises:
        Fatal: they are the same look: too few events to measure.
    """
    began = next(sample for sample in samples if sample.committed >= first)
    ended = next(sample for sample in samples if sample.committed >= last)
    if ended.committed == began.committed:
        raise Fatal(f"events {first:,} to {last:,} were committed within one look; measure more with --events")
    return began, ended, max(sample.rss_bytes for sample in samples if sample.at_s <= ended.at_s)
