"""The kind `webhook`: what a supplier sends, read from inventory.received, where any connectors' process has put it.

Invariant: a delivery that comes again is passed over, though it bears a later time: of so many before it the ids are
known, and after a start they are read again. Its state is the offset from which on that is, and the next one to read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from hashlib import blake2b
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connectors.credentials.secret import Secret
from connectors.documents import Document, Kind, SourceConfig, State, Surroundings, once
from connectors.inbound.inbox import Box, Inbox, Received
from connectors.inbound.signature import HeaderName, Signature, Standard
from stockweave.errors import Rejected

REMEMBERED = 10_000  # deliveries, whose ids are known
ORIGIN_CHARACTERS_MAX = 100


class WebhookConfig(SourceConfig):
    """Bodies that are sent to `/hooks/<supplier>/<feed>`.

    `delivery_id_header`: of what is the same when a supplier sends it again. `verify_token`: for suppliers who ask by
    GET with `hub.challenge` before they send; `url_verification`: for those who ask by a body of that type.
    """

    is_one_by_one: ClassVar[bool] = True
    asks_supplier: ClassVar[bool] = False

    kind: Literal["webhook"] = "webhook"
    signature: Signature
    delivery_id_header: HeaderName | None = None
    body_bytes_max: Annotated[int, Field(ge=1, le=16 << 20)] = 1 << 20
    verify_token: Secret | None = None
    url_verification: bool = False

    @property
    def id_header(self) -> str | None:
        """Where the id of a delivery is."""
        if self.delivery_id_header is None and isinstance(self.signature, Standard):
            return f"{self.signature.prefix}id"
        return self.delivery_id_header

    @property
    def is_content_named(self) -> bool:  # type: ignore[override] # here it is the configuration's matter
        """Whether a repeat has the ids that it had: where the supplier names its deliveries."""
        return self.id_header is not None

    @property
    def is_document_whole(self) -> bool:
        """Whether each body is a snapshot."""
        return True


class WebhookSource:
    """What came for one feed."""

    def __init__(self, config: WebhookConfig, around: Surroundings) -> None:
        self._feed = around.feed
        self._inbox = around.inbox
        self._box: Box | None = None
        self._next = self._told = 0  # up to where it had been read at the start; up to where it was told of
        self._seen: dict[str, int] = {}  # deliveries that were read: where each came first, in that order

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        """What has come."""
        inbox, box = self._opened(state)
        while (received := box.first()) is not None:
            is_repeat = self._remember(received)
            if received.offset >= self._next and not is_repeat:
                yield self._document(received, inbox)
                self._told = received.offset + 1
            box.take()

    async def news(self) -> None:
        """Returns when something has come."""
        if self._box is not None:
            await self._box.wait()

    async def close(self) -> None:
        """Want no more."""
        if self._inbox is not None and self._box is not None:
            self._inbox.close(self._box)

    def _opened(self, state: State) -> tuple[Inbox, Box]:
        inbox = self._inbox
        if inbox is None:
            raise Rejected(
                "needs_kafka",
                "a webhook is read as it comes; to try its mapping, put a body into a folder and try a feed of that",
            )
        partition = inbox.partition(self._feed)
        is_known = (state.get("topic"), state.get("partition")) == (inbox.topic.generation, partition)
        first, wanted = (state["from"], state["next"]) if is_known else (0, 0)
        if self._box is not None and wanted < self._told:  # what was told of is held back: tell of it again
            inbox.close(self._box)
            self._box = None
        if self._box is None:
            self._next = self._told = wanted
            self._seen = {}
            self._box = inbox.open(self._feed, first)
        return inbox, self._box

    def _document(self, received: Received, inbox: Inbox) -> Document:
        after = {
            "topic": inbox.topic.generation,
            "partition": inbox.partition(self._feed),
            "from": next(iter(self._seen.values()), received.offset + 1),
            "next": received.offset + 1,
        }
        return Document(
            origin=origin(received),
            observed_at=received.received_at,
            received_at=received.received_at,
            blocks=once(received.body),
            after=after,
        )

    def _remember(self, received: Received) -> bool:
        """Whether it is a repeat."""
        if received.delivery_id is None:
            return False
        is_repeat = self._seen.setdefault(received.delivery_id, received.offset) != received.offset
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return is_repeat


def origin(received: Received) -> str:
    """The supplier's id where it can be part of ours; else what is made of it, or of where it lies."""
    named = received.delivery_id
    if named is None:
        return f"{received.offset:016}"
    is_plain = named.isascii() and named.isprintable() and named == named.strip()
    if is_plain and 0 < len(named) <= ORIGIN_CHARACTERS_MAX:
        return named
    return blake2b(named.encode(), digest_size=20).hexdigest()


KIND = Kind(WebhookConfig, WebhookSource)
