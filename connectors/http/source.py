"""What the sources that poll over HTTP have in common: their client, and when they asked last. A base of the kinds."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from connectors.documents import State, Surroundings
from connectors.http.client import Answer, Client, HttpConfig

PAGES_MAX = 100_000  # of one poll: a supplier that turns in a circle does not keep us for ever

ConfigT = TypeVar("ConfigT", bound=HttpConfig)


class HttpSource(Generic[ConfigT]):
    """One address.

    Args:
        config: what is asked, and of whom.
        around: of the feed.
    """

    def __init__(self, config: ConfigT, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._client = Client(config, around)
        self._asked = config.asked(around.version)
        self._before: State = {}

    async def news(self) -> None:
        """Nobody tells."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _known(self, state: State) -> State:
        """What was learnt from the answers to what is asked now; of anything else, it says nothing."""
        self._before = state if state.get("asked") == self._asked else {}
        return self._before

    def _after(self, first: Answer) -> State:
        """What the first answer of a poll says of the next poll. As `as_of_ms`: ms since the epoch, their clock.

        After their clock was set back, what changed since the last poll has times before those that were asked for.
        """
        if self._config.since is None:
            return {}
        since_ms, before = first.as_of_ms, self._before
        if since_ms < before.get("since_ms", 0):
            since_ms -= max(0, first.began_ms - before.get("polled_ms", first.began_ms))
        return {"asked": self._asked, "since_ms": since_ms, "polled_ms": first.began_ms}
