"""Suppliers' scores beside the policies: what their feeds' health comes to, and when that is recorded there.

Invariant: a number is computed by what is recorded, and by nothing that is measured; so it has a revision, and is told,
tried and replayed as any decision is. A score is recorded anew only once it is a whole step from the recorded one, and
has been for a while: numbers do not jump with each poll that fails. Called by `stockweave policies`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Mapping
from threading import Event

import structlog
from confluent_kafka import KafkaException
from rich.console import Console

from inventory.policies import Policies
from inventory.reliability import by_supplier, lowest
from schemas.admin import ensure_topics
from schemas.codec import Codec
from schemas.feed_health import FeedHealth
from schemas.feed_health_log import FeedHealthLog
from schemas.policies import SCORE
from schemas.policy_log import PolicyLog, read
from schemas.registry import open_registry
from stockweave.errors import Retriable
from stockweave.policies.command import written
from stockweave.policies.edit import Changes
from stockweave.policies.table import policies_of
from stockweave.replay.session import kafka
from stockweave.settings import Settings
from stockweave.world import SystemClock

log = structlog.get_logger(__name__)

POLL_S = 0.5
WAIT_S = 15.0

Scores = dict[str, int]
"""Whole percent, by supplier."""


def measured(feeds: Iterable[FeedHealth], now_ms: int) -> Scores:
    """As of now, of all suppliers that have a feed: as the API tells them, rounded to whole percent."""
    scores = {supplier: lowest(own, now_ms) for supplier, own in by_supplier(feeds, now_ms).items()}
    return {supplier: round(100 * value) for supplier, value in scores.items() if value is not None}


def recorded(policies: Policies) -> Scores:
    """Those that policies go by."""
    return {
        scope.partition(":")[2]: policy.reliability_percent
        for scope, policy in policies.by_scope.items()
        if scope.startswith(f"{SCORE}:") and policy.reliability_percent is not None
    }


class Steady:
    """Which scores are to be recorded.

    Args:
        step_percent: by so much another one at least, in points; one of which none is recorded always is.
        hold_ms: and on the same side of the recorded one for so long, at each look.
    """

    def __init__(self, step_percent: int, hold_ms: int) -> None:
        self._step_percent = step_percent
        self._hold_ms = hold_ms
        self._since: dict[str, tuple[bool, int]] = {}  # whether it is higher, and from when on

    def look(self, before: Mapping[str, int], now: Mapping[str, int], now_ms: int) -> Scores:
        """Those among `now` that are to take the place of what is recorded, `before`."""
        self._since = {
            supplier: self._first_seen(supplier, before, now, now_ms) for supplier in self._away(before, now)
        }
        due = {s: now[s] for s, (_, since_ms) in self._since.items() if now_ms - since_ms >= self._hold_ms}
        for supplier in due:
            del self._since[supplier]  # the next change is another one, and has to stay as long
        return due

    def _away(self, before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
        return [s for s in sorted(now) if s not in before or abs(now[s] - before[s]) >= self._step_percent]

    def _first_seen(
        self, supplier: str, before: Mapping[str, int], now: Mapping[str, int], now_ms: int
    ) -> tuple[bool, int]:
        higher = now[supplier] > before.get(supplier, -1)
        seen = self._since.get(supplier)
        return seen if seen is not None and seen[0] == higher else (higher, now_ms)


def as_changes(scores: Mapping[str, int]) -> Changes:
    """As a file of policies has them."""
    return {f"{SCORE}:{supplier}": {"reliability_percent": percent} for supplier, percent in scores.items()}


def show(settings: Settings, step_percent: int) -> None:
    """Print the scores that are another than the recorded ones, as a file for `diff` and `set`.

    Raises:
        Retriable: Kafka or the registry does not answer.
        Fatal: there is no such topic.
    """
    with kafka(settings, Console(stderr=True, highlight=False)) as connected:
        scores = _Scores(connected)
        try:
            scores.read_all()
            due = scores.due(Steady(step_percent, 0))
        finally:
            scores.close()
    Console(soft_wrap=True, markup=False, emoji=False, highlight=False).print_json(data=as_changes(due))


def follow(settings: Settings, steady: Steady, every_s: float, stopping: Event) -> None:
    """Record scores until told to stop.

    Raises:
        Retriable: Kafka or the registry did not answer at the start.
        Fatal: a topic is gone, or another command has just begun to write.
    """
    with kafka(settings, Console(stderr=True, highlight=False)) as connected:
        ensure_topics(connected, connected.bootstrap_servers or "")
        scores = _Scores(connected)
        try:
            scores.read_all()
            while not stopping.is_set():
                try:
                    scores.read()
                    _record(connected, scores.due(steady))
                except Retriable as why:
                    log.warning("scores_wait", why=str(why))  # the next look finds again what is due
                stopping.wait(every_s)
        finally:
            scores.close()


def _record(connected: Settings, due: Scores) -> None:
    if not due:
        return
    made, held = written(connected, as_changes(due))
    if made:
        told = {policy.scope: policy.reliability_percent for policy in made}
        log.info("scores_recorded", scores=told, revision=held.revision)


def until_told() -> Event:
    """Set by whoever ends this process."""
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


class _Scores:
    """Follows both topics: what feeds tell of their health, and the policies; on one thread."""

    def __init__(self, connected: Settings) -> None:
        bootstrap = connected.bootstrap_servers or ""
        codec = Codec("Policy", open_registry(connected))
        self._policies = policies_of(read(connected, bootstrap, codec))
        self._feeds: dict[str, FeedHealth] = {}
        try:
            self._told = FeedHealthLog(connected, bootstrap)
        except KafkaException as error:
            raise Retriable(f"Kafka at {bootstrap} does not answer: {error.args[0].str()}; is it running?") from error
        self._log = PolicyLog(connected, bootstrap, codec)

    def read_all(self) -> None:
        """What there is; raises Retriable if that takes long."""
        deadline_s = time.monotonic() + WAIT_S
        while not self._told.has_ended:
            if time.monotonic() > deadline_s:
                raise Retriable(f"the health of feeds could not be read within {WAIT_S:g} s; try again")
            self._hear(POLL_S)

    def read(self) -> None:
        """What has come since, without waiting."""
        while changes := self._log.poll(0):
            self._policies = self._policies.heard(changes)
        while self._hear(0):
            pass

    def due(self, steady: Steady) -> Scores:
        """What is to be recorded now."""
        now_ms = SystemClock().now_ms()
        return steady.look(recorded(self._policies), measured(self._feeds.values(), now_ms), now_ms)

    def close(self) -> None:
        """Leave Kafka."""
        self._log.close()
        self._told.close()

    def _hear(self, wait_s: float) -> bool:
        """Whether anything came."""
        told = self._told.poll(wait_s)
        for feed, health in told:
            if health is None:
                self._feeds.pop(feed, None)
            else:
                self._feeds[feed] = health
        return bool(told)
