"""Kinds that hang or break: their feed's matter alone, and no reason for a process not to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal

import pytest

from connectors import kinds as registry
from connectors.documents import Document, Kind, SourceConfig, State, Surroundings
from tests.connectors.files.test_folder import write
from tests.connectors.running import SIMPLE, Running, csv_feed, units


class OddConfig(SourceConfig):
    kind: Literal["odd"] = "odd"
    how: str


class OddSource:
    """Gives a row, and then hangs or breaks."""

    def __init__(self, config: OddConfig, _: Surroundings) -> None:
        self._how = config.how

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        if self._how == "breaks":
            raise ZeroDivisionError
        yield Document("odd", 1_790_000_000_000, 1_790_000_000_000, self._blocks(), {"done": True})

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        yield b"code,stock\n"
        if self._how == "breaks within":
            raise KeyError("secret")
        await asyncio.Event().wait()

    async def news(self) -> None:
        await asyncio.Event().wait()

    async def close(self) -> None: ...


@pytest.fixture(autouse=True)
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    known = registry.built_in()
    monkeypatch.setattr(registry, "built_in", lambda: known | {"odd": Kind(OddConfig, OddSource)})


def odd_feed(how: str, **more: Any) -> dict[str, Any]:
    return {
        "source": {"kind": "odd", "how": how}, "format": {"format": "csv"}, "mapping": SIMPLE, "poll": {"every_s": 0.1},
    } | more  # fmt: skip


@pytest.mark.parametrize("how", ["breaks", "breaks within", "hangs"])
@pytest.mark.parametrize("snapshot", [None, {}])
async def test_a_kind_that_breaks_or_hangs_is_its_feeds_matter_alone_and_ends_with_the_process(
    running: Running, tmp_path: Path, how: str, snapshot: dict[str, Any] | None
) -> None:
    running.configure("odd", stock=odd_feed(how, snapshot=snapshot))
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        await asyncio.sleep(0.3)
        write(tmp_path / "in" / "a.csv", "code,stock\ns1,5\n")
        assert units(await running.until_updates(1)) == {"s1": 5}
    await running.until(lambda: not [t for t in threading.enumerate() if t.name.startswith("intake")])
