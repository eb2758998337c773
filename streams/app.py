"""The Faust app: its worker command, its agent, and the pump in place of Faust's own consumer, producer and tables.

`BootStrategy.enable_kafka` is Faust's documented way to leave those unstarted. Run by `stockweave worker`, and as well
by `faust -A streams.app worker`; the settings come from the environment either way.
"""

from __future__ import annotations

import asyncio
from typing import Any

import faust
from faust.app import BootStrategy

from stockweave import metrics
from stockweave.errors import StockweaveError
from stockweave.settings import Settings
from streams.assembly import Engine, connect
from streams.identity import Identity
from streams.pump import Pump, Work

SHUTDOWN_S = 30.0


class WithoutFaustKafka(BootStrategy):
    """Starts agents and services, and none of Faust's Kafka."""

    enable_kafka = False


class App(faust.App):
    """A Faust app that is served by the pump."""

    BootStrategy = WithoutFaustKafka

    async def _wait_for_table_recovery_completed(self) -> bool:
        # Faust's tables are not started. A partition's own recovery is the pump's, and holds up that partition alone.
        self.flow_control.resume()  # channels stay shut until this
        return False

    def _create_directories(self) -> None:
        """Nothing of Faust's is kept on disk; the worker's folder is its `Identity`'s to make."""


class Worker(faust.Worker):
    """Faust's worker, without the second that it waits after everything has stopped."""

    async def _sentinel_task(self) -> None:
        await asyncio.sleep(0)


settings = Settings()
app = App(
    settings.group,
    broker="kafka://" + (settings.bootstrap_servers or "unset"),
    store="memory://",
    datadir=str(settings.data_dir),
    web_enabled=False,
    topic_disable_leader=True,
    shutdown_timeout=SHUTDOWN_S,
)
batches = app.channel(maxsize=1)


@app.agent(batches)
async def fold_updates(works: Any) -> None:  # noqa: ANN401 - faust's streams are untyped
    """Take each batch through its turn, off the event loop."""
    async for work in works:
        work.turning.set_result(asyncio.get_running_loop().run_in_executor(work.thread, work.turn, work.batch))


async def _send(work: Work) -> None:
    await batches.send(value=work)


@app.service
class UpdatesPump(Pump):
    """The pump of this app."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
        self._identity = Identity(settings.data_dir)
        self._began = False
        super().__init__(self._connect, _send, **kwargs)

    async def on_start(self) -> None:
        """Serve the metrics, where a port is given; the pump itself begins after this.

        Raises:
            Fatal: the port or the address cannot be had.
        """
        if settings.metrics_port is not None:
            metrics.serve(settings.metrics_host, settings.metrics_port)
        self._began = True

    async def on_stop(self) -> None:
        """As `Pump.on_stop`, which waits for the pump's end: one that never began has none."""
        if self._began:
            await super().on_stop()

    def _connect(self) -> Engine:
        return connect(settings, self._identity)


def main() -> None:
    """Run the worker until SIGTERM or SIGINT.

    Raises:
        StockweaveError: why it ended, when it was not told to.
        SystemExit: with 0 after a stop.
    """
    worker = Worker(app, quiet=True, override_logging=False, redirect_stdouts=False)
    worker.spinner = None  # it would write control characters into a log of one JSON object a line
    try:
        worker.execute_from_commandline()
    except SystemExit as ended:
        for why in (worker.crash_reason, ended.__context__):  # while it ran, and while it started
            if isinstance(why, StockweaveError):
                raise why from None
        raise
