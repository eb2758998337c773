"""The dead letters that nobody has settled, as `stockweave dlq` shows them. Used by `command` and `retry`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from confluent_kafka import Message

from connectors.runner.letters import FEED
from schemas.admin import Deployed
from schemas.codec import Codec
from schemas.dead_letters import DETAIL, NOTE, REASON, STAGE, TOPIC, letter_id, settled_note
from schemas.small_topic import read_all
from schemas.topics import DEAD_LETTERS, SETTLED, UPDATES
from stockweave.clients import send_all
from stockweave.errors import Rejected
from stockweave.replay.facts import everything


class Letter(NamedTuple):
    """One. `id`: its partition and offset. `feed`: the whole name of its feed; empty if it is none of a feed's.

    `headers`: of one name the last.
    """

    id: str
    at_ms: int
    feed: str
    key: bytes | None
    original: bytes | None
    headers: Mapping[str, bytes]

    def told(self, name: str) -> str:
        """A header as text; empty where there is none."""
        return (self.headers.get(name) or b"").decode(errors="replace")

    @property
    def stage(self) -> str:
        """Who refused it."""
        return self.told(STAGE)

    @property
    def reason(self) -> str:
        """The stable code."""
        return self.told(REASON)

    @property
    def detail(self) -> str:
        """What is wrong, and the remedy."""
        return self.told(DETAIL)


@dataclass(frozen=True)
class Wanted:
    """Which letters: all that fit everything that is given."""

    ids: frozenset[str] = frozenset()
    feed: str | None = None
    reason: str | None = None
    key: str | None = None

    def fits(self, letter: Letter) -> bool:
        """Whether it is meant."""
        return (
            (not self.ids or letter.id in self.ids)
            and self.feed in (None, letter.feed)
            and self.reason in (None, letter.reason)
            and (self.key is None or letter.key == self.key.encode())
        )

    @property
    def is_all(self) -> bool:
        """Whether nothing was given."""
        return self == Wanted()


def unsettled(topics: Mapping[str, Deployed], bootstrap_servers: str, codec: Codec, wanted: Wanted) -> Iterator[Letter]:
    """The letters that are wanted and not settled, partition by partition, the oldest first.

    Args:
        topics: as deployed.
        bootstrap_servers: of their Kafka.
        codec: of StockUpdate.
        wanted: which.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: the topic is gone, or may not be read.
    """
    settled = set()
    if SETTLED.name in topics:
        settled = {message.key() for message in read_all(topics[SETTLED.name].name, bootstrap_servers)}
    topic = topics[DEAD_LETTERS.name]
    for message in everything(bootstrap_servers, topic.name, range(topic.partitions), "letters"):
        letter = _letter(message, topics[UPDATES.name].name.encode(), codec)
        if NOTE not in letter.headers and letter.id.encode() not in settled and wanted.fits(letter):
            yield letter


def settle(topics: Mapping[str, Deployed], bootstrap_servers: str, letters: list[Letter], did: str) -> None:
    """Note what was done with letters: they are shown no more.

    Raises:
        Retriable: Kafka does not take it; they may be retried once more, which changes nothing.
    """
    note = settled_note(did)
    send_all(bootstrap_servers, topics[SETTLED.name].name, [(letter.id, note) for letter in letters])


def _letter(message: Message, updates: bytes, codec: Codec) -> Letter:
    headers = dict(cast("list[tuple[str, bytes]]", message.headers() or []))
    feed = (headers.get(FEED) or b"").decode(errors="replace")
    if headers.get(TOPIC) == updates:  # what a worker refused says itself where it is from
        [update] = codec.decode([message.value()])
        feed = "" if isinstance(update, Rejected) else str(update["feed"])
    name, at_ms = letter_id(message.partition() or 0, message.offset() or 0), message.timestamp()[1]
    return Letter(name, at_ms, feed.rpartition("@")[0], message.key(), message.value(), headers)


def one(topics: Mapping[str, Deployed], bootstrap_servers: str, codec: Codec, letter_id: str) -> Letter:
    """A letter by its id.

    Raises:
        Rejected: there is none that is not settled.
        Retriable: Kafka does not answer.
    """
    found = next(unsettled(topics, bootstrap_servers, codec, Wanted(frozenset({letter_id}))), None)
    if found is None:
        raise Rejected("unknown_letter", f"there is no letter {letter_id}, or it is settled; see `stockweave dlq list`")
    return found
