"""One source polled without a runner: its documents and states, and the rows of its JSON."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import orjson

from connectors.budget import Budget, Limits
from connectors.documents import Kind, State, Surroundings
from stockweave.world import SystemClock

GENEROUS = Limits(requests_per_s=10_000.0, burst=10_000)


class Polled(NamedTuple):
    """`bodies`: of its documents; `observed_at`: of each; `state`: after it."""

    bodies: list[bytes]
    observed_at: list[int]
    state: State

    def rows(self, *names: str) -> list[dict[str, Any]]:
        """Of all documents, in their order; `names` lead to them."""
        found = []
        for body in self.bodies:
            held = orjson.loads(body)
            for name in names:
                held = held[name]
            found += held
        return found


class Feed:
    """`async with` closes its source. `state`: kept from poll to poll, as the runner does."""

    def __init__(self, kind: Kind, version: int = 1, **config: Any) -> None:
        self.around = Surroundings(version, SystemClock(), Budget(GENEROUS, SystemClock()))
        self.source = kind.open(kind.config(**config), self.around)
        self.state: State = {}

    async def __aenter__(self) -> Feed:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.source.close()

    async def poll(self, *names: str) -> Polled:
        """One; `names` lead to a document's rows, of which it is told how many there were."""
        polled = Polled([], [], {})
        async with contextlib.aclosing(self.source.read(self.state)) as documents:
            async for document in documents:
                if document.blocks is not None:
                    body = b"".join([block async for block in document.blocks])
                    polled.bodies.append(body)
                    polled.observed_at.append(document.observed_at)
                    if body.startswith((b"{", b"[")):
                        document.rows = len(Polled([body], [], {}).rows(*names))
                self.state = self.state if document.after is None else document.after
        return polled._replace(state=self.state)
