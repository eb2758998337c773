"""What every kind of feed gives: documents, one after another, each with where and when it came from.

A kind knows how to get at bytes, and nothing else: its format takes them apart, the mapping reads them, the runner
brings them to Kafka. Implemented by the kinds, used by `runner`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from connectors.budget import Budget
from connectors.inbound.inbox import Inbox
from connectors.options import Options
from stockweave.world import Clock

State = dict[str, Any]
"""How far a feed has been read, as its kind puts it: what JSON can hold, and little of it."""


@dataclass
class Document:
    """Some rows of a feed.

    `origin`: a name of its content, at most 100 characters: of a file, so that the same one has the same; of a poll,
    the start of the request, zero-padded, so that the later one has the greater text. `observed_at`, `received_at`: in
    ms since the epoch: when it was true unless its rows say, and when it came. `blocks`: its bytes, read once; None:
    there is but a state to tell. `after`: the feed's state once Kafka has all of it; None: as before. `rows`: how many
    it had, set before the next is asked for.
    """

    origin: str
    observed_at: int
    received_at: int
    blocks: AsyncGenerator[bytes, None] | None
    after: State | None
    rows: int = 0


async def once(body: bytes) -> AsyncGenerator[bytes, None]:
    """The blocks of a document that is there as a whole."""
    yield body


class Source(Protocol):
    """One feed's way to its supplier."""

    def read(self, state: State) -> AsyncGenerator[Document, None]:
        """What is new since `state`, which is empty at first; nothing new is no document.

        Raises:
            Retriable: the supplier is away, or wants us to wait.
            Rejected: what it answers is of no use, now or later.
        """
        ...

    async def news(self) -> None:
        """Returns when there may be something to read before the next poll is due; never, where nobody tells."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class SourceConfig(Options):
    """What the configuration says of a source; each kind has its own.

    `is_content_named`: whether a document that is read again has the same origin, and so its rows the same ids.
    `is_one_by_one`: whether statements come each by itself, and so with a time of its own.
    `asks_supplier`: whether its server is asked; if it does not answer, that holds for all of its feeds that ask.
    """

    is_content_named: ClassVar[bool] = False
    is_one_by_one: ClassVar[bool] = False
    asks_supplier: ClassVar[bool] = True

    kind: str

    @property
    def is_partial(self) -> bool:
        """Whether a poll gives but what changed, so that what is not in it may be there all the same."""
        return False

    @property
    def gives_messages(self) -> bool:
        """Whether its documents are of messages as `formats.envelopes` packs them, which not each format reads."""
        return False

    @property
    def is_document_whole(self) -> bool:
        """Whether each document is a snapshot, of a feed that has such; else all documents of a poll are one."""
        return self.is_content_named


class Surroundings(NamedTuple):
    """What a source is given.

    `version`: of the mapping. `budget`: the supplier's, to be asked before each request. `is_trial`: what is read is
    but looked at, and nothing may be changed at the supplier's. `feed`: supplier/feed. `inbox`: what suppliers sent to
    us; None where there is no Kafka.
    """

    version: int
    clock: Clock
    budget: Budget
    is_trial: bool = False
    feed: str = ""
    inbox: Inbox | None = None


class Kind(NamedTuple):
    """A kind of feed: an entry point of the group `stockweave.connectors` names one.

    `config`: its model, with `kind` as a literal; `open`: makes a source of a checked configuration.
    """

    config: type[SourceConfig]
    open: Callable[[Any, Surroundings], Source]
