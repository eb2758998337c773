"""The HTTP server that suppliers send to, in each connectors' process that is configured with such a feed.

Any of the processes takes what comes for any feed, so they may stand behind one load balancer, or share one port of a
machine; which of them runs the feed is the leases' matter. Made by `process`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import structlog
from aiohttp import web

from connectors.configuration.load import Feed, Loaded
from connectors.inbound import hooks, spool, uploads
from connectors.inbound.upload import UploadConfig
from connectors.inbound.webhook import WebhookConfig
from connectors.publisher import Publisher
from stockweave import problems
from stockweave.errors import Fatal
from stockweave.settings import Settings
from stockweave.world import Clock

log = structlog.get_logger(__name__)

FINISH_S = 5.0  # for what is being received at the stop


class Inbound:
    """The server, which listens while a feed wants it.

    Args:
        settings: host and port.
        publisher: of inventory.received; started before, stopped after.
        clock: stamps what comes.
    """

    def __init__(self, settings: Settings, publisher: Publisher, clock: Clock) -> None:
        self._host = settings.connectors_host
        self._port = settings.connectors_port
        self._publisher = publisher
        self._clock = clock
        self._feeds: dict[str, Feed] = {}
        self._runner: web.AppRunner | None = None

    async def configure(self, loaded: Loaded) -> None:
        """Take what comes for these feeds, and for no others.

        Raises:
            Fatal: the address cannot be listened on.
        """
        self._feeds = {
            name: feed
            for name, feed in loaded.feeds.items()
            if isinstance(feed.config.source, WebhookConfig | UploadConfig)
        }
        await asyncio.to_thread(self._make_folders)
        if self._feeds and self._runner is None:
            await self._listen()
        elif not self._feeds:
            await self.stop()

    async def stop(self) -> None:
        """Take no more; what is being received is answered."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[problems.middleware])
        webhooks = hooks.Hooks(self._find, self._publisher, self._clock)
        files = uploads.Uploads(self._find, self._clock)
        app.router.add_post(hooks.PATH, webhooks.receive, expect_handler=problems.expectation)
        app.router.add_get(hooks.PATH, webhooks.challenge, expect_handler=problems.expectation, allow_head=False)
        app.router.add_post(uploads.PATH, files.receive, expect_handler=problems.expectation)
        app.router.add_get("/healthz", self._health, expect_handler=problems.expectation)
        app.on_response_prepare.append(problems.unexpected)
        return app

    def _find(self, request: web.Request) -> Feed | None:
        return self._feeds.get(f"{request.match_info['supplier']}/{request.match_info['feed']}")

    async def _health(self, _: web.Request) -> web.Response:
        """For load balancers: whether a webhook would be kept."""
        is_well = self._publisher.reachable
        return web.json_response({"status": "ok" if is_well else "kafka_away"}, status=200 if is_well else 503)

    async def _listen(self) -> None:
        # auto_decompress: signatures are of the bytes as they came
        runner = web.AppRunner(self.application(), access_log=None, shutdown_timeout=FINISH_S, auto_decompress=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, reuse_port=True).start()
        except OSError as error:
            await runner.cleanup()
            raise Fatal(
                f"{self._host}:{self._port} cannot be listened on ({error.strerror}); "
                "set STOCKWEAVE_CONNECTORS_HOST and STOCKWEAVE_CONNECTORS_PORT to a free one"
            ) from error
        self._runner = runner
        log.info("suppliers_may_send", address=str(runner.addresses[0]))

    def _make_folders(self) -> None:
        for name, feed in self._feeds.items():
            if isinstance(feed.config.source, UploadConfig):
                path = Path(feed.config.source.path)
                try:
                    spool.make(path)
                    spool.tidy(path)
                except OSError as error:  # uploads to it are answered with 503
                    log.error("folder_of_uploads", feed=name, path=str(path), why=error.strerror)
