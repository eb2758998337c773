"""The commands on suppliers' feeds: `stockweave connectors`, `quarantine` and `dlq`. Part of `cli`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from stockweave.errors import Fatal
from stockweave.logs import configure_logs
from stockweave.options import DataDir, Json, settings_of, with_kafka
from stockweave.sku_commands import skus_app

connectors_app = typer.Typer(help="Suppliers' feeds: checked, tried, run.", no_args_is_help=True)
quarantine_app = typer.Typer(help="Snapshots of suppliers that wait for a person.", no_args_is_help=True)
dlq_app = typer.Typer(help="Dead letters: what could not be used, and why.", no_args_is_help=True)
FEED_APPS = {"connectors": connectors_app, "quarantine": quarantine_app, "dlq": dlq_app, "skus": skus_app}

FeedsPath = Annotated[Path, typer.Argument(help="A folder with one YAML file a supplier, or one such file.")]
FeedName = Annotated[str, typer.Argument(help="supplier/feed.")]
Ids = Annotated[list[str] | None, typer.Argument(help="Of letters, as `list` shows them.", show_default="all that fit")]
OfFeed = Annotated[str | None, typer.Option("--feed", help="supplier/feed.")]
OfReason = Annotated[str | None, typer.Option("--reason", help="The code, as `list` shows it.")]
OfKey = Annotated[str | None, typer.Option("--key", help="Of the message: of a worker's letter, the SKU.")]


@connectors_app.command("check")
def connectors_check(path: FeedsPath) -> None:
    """Say what is wrong with suppliers' files, each fault with its line; exit code 65 if anything is."""
    from connectors.kinds import kinds
    from connectors.preview import check

    check(path, kinds())


@connectors_app.command("try")
def connectors_try(
    path: FeedsPath,
    feed: Annotated[str, typer.Argument(help="supplier/feed.")],
    rows: Annotated[int, typer.Option(min=1, max=10_000, help="So many of its first rows.")] = 10,
    json: Json = False,
) -> None:
    """Read the beginning of a feed, and print what would come of it. Changes nothing, and needs no Kafka."""
    from connectors.kinds import kinds
    from connectors.preview import preview

    configure_logs("connectors", level=logging.WARNING)
    preview(path, kinds(), feed, rows, json=json)


@connectors_app.command("run")
def connectors_run(path: FeedsPath) -> None:
    """Read suppliers' feeds into Kafka until told to stop. Start more for more: they share the feeds."""
    settings = with_kafka(settings_of())
    configure_logs("connectors")
    from connectors.kinds import kinds
    from connectors.runner.process import main as run

    run(settings, path, kinds())


@connectors_app.command("simulate")
def connectors_simulate(
    kind: Annotated[str, typer.Argument(help="rest, graphql, soap, sftp, ftp or kafka.")],
    folder: Annotated[Path, typer.Option(help="Where its file is written.")] = Path("acme-trial"),
    offers: Annotated[int, typer.Option(min=1, max=1_000_000, help="So many has it.")] = 100,
    faults: Annotated[float, typer.Option(min=0, max=0.9, help="Share of requests that fail.")] = 0.0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two changes of its stock.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
) -> None:
    """Run a supplier to try with, on this machine, and write its file; needs the extra `testing`."""
    configure_logs("simulate", level=logging.WARNING)
    try:
        from connectors.testing.simulate import main as simulate
    except ModuleNotFoundError as missing:
        raise Fatal(f"simulating needs {missing.name}: install it with pip install 'stockweave[testing]'") from None
    from stockweave.broker.kafka import EmbeddedKafka

    def new_broker(data: Path, port: int, properties: Mapping[str, str]) -> EmbeddedKafka:
        repository = settings_of().maven_repository
        return EmbeddedKafka(data, port, heap_mb=256, maven_repository=repository, properties=properties)

    simulate(kind, folder, offers, faults, every, seed, new_broker)


@connectors_app.command("drift")
def connectors_drift(feed: OfFeed = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Say which fields of feeds were other ones than they had been, with a sample."""
    from stockweave.quarantine.drift import show

    settings = settings_of(data_dir=data_dir)
    configure_logs("drift", level=logging.WARNING)
    show(settings, feed, json=json)


@quarantine_app.command("list")
def quarantine_list(data_dir: DataDir = None, json: Json = False) -> None:
    """Say which snapshots are held back, and why."""
    from stockweave.quarantine.command import show

    settings = settings_of(data_dir=data_dir)
    configure_logs("quarantine", level=logging.WARNING)
    show(settings, json=json)


@quarantine_app.command("release")
def quarantine_release(feed: Annotated[str, typer.Argument(help="supplier/feed.")], data_dir: DataDir = None) -> None:
    """Let a snapshot be taken as it is; of a feed that is polled, the next one."""
    from stockweave.quarantine.command import decide

    settings = settings_of(data_dir=data_dir)
    configure_logs("quarantine", level=logging.WARNING)
    decide(settings, feed, "release")


@quarantine_app.command("drop")
def quarantine_drop(feed: Annotated[str, typer.Argument(help="supplier/feed.")], data_dir: DataDir = None) -> None:
    """Pass a file over that is held back. One that is polled is asked for again all the same."""
    from stockweave.quarantine.command import decide

    settings = settings_of(data_dir=data_dir)
    configure_logs("quarantine", level=logging.WARNING)
    decide(settings, feed, "drop")


@dlq_app.command("list")
def dlq_list(
    feed: OfFeed = None,
    reason: OfReason = None,
    key: OfKey = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Print the letters that nobody has settled, the oldest first."""
    from stockweave.dlq.command import show_all
    from stockweave.dlq.letters import Wanted

    settings = settings_of(data_dir=data_dir)
    configure_logs("dlq", level=logging.WARNING)
    show_all(settings, Wanted(frozenset(), feed, reason, key), limit, json=json)


@dlq_app.command("show")
def dlq_show(
    letter: Annotated[str, typer.Argument(help="Its id.")], data_dir: DataDir = None, json: Json = False
) -> None:
    """Print one letter: its bytes, where it stood, and why it could not be used."""
    from stockweave.dlq.command import show_one

    settings = settings_of(data_dir=data_dir)
    configure_logs("dlq", level=logging.WARNING)
    show_one(settings, letter, json=json)


@dlq_app.command("retry")
def dlq_retry(
    ids: Ids = None,
    feed: OfFeed = None,
    reason: OfReason = None,
    key: OfKey = None,
    suppliers: Annotated[
        Path | None, typer.Option("--suppliers", help="The suppliers' files, by which rows are mapped now.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Send letters the same way again, after what was wrong is mended; exit code 65 if any is left."""
    from stockweave.dlq.command import retry_all
    from stockweave.dlq.letters import Wanted

    settings = settings_of(data_dir=data_dir)
    configure_logs("dlq", level=logging.WARNING)
    if not retry_all(settings, Wanted(frozenset(ids or ()), feed, reason, key), suppliers or settings.suppliers):
        raise typer.Exit(os.EX_DATAERR)


@dlq_app.command("drop")
def dlq_drop(
    ids: Ids = None, feed: OfFeed = None, reason: OfReason = None, key: OfKey = None, data_dir: DataDir = None
) -> None:
    """Show letters no more; they stay in the topic."""
    from stockweave.dlq.command import drop_all
    from stockweave.dlq.letters import Wanted

    settings = settings_of(data_dir=data_dir)
    configure_logs("dlq", level=logging.WARNING)
    drop_all(settings, Wanted(frozenset(ids or ()), feed, reason, key))
