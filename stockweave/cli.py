"""The `stockweave` command. The only place where a StockweaveError becomes a line on stderr and an exit code.

Exit codes are sysexits': 78 for Fatal (trying again is no use), 75 for Retriable, 65 for Rejected.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stockweave.demo.command import demo_app
from stockweave.errors import Fatal, Rejected, Retriable, StockweaveError
from stockweave.feed_commands import FEED_APPS
from stockweave.heap import share_one_heap
from stockweave.logs import configure_logs
from stockweave.options import DataDir, Json, settings_of, with_kafka

app = typer.Typer(
    help="Suppliers' stock feeds in, one true number per SKU out. Settings: STOCKWEAVE_* variables or a .env file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(demo_app, name="demo")
checkpoint_app = typer.Typer(help="Rows and positions in files: made, listed, gone back to.", no_args_is_help=True)
app.add_typer(checkpoint_app, name="checkpoint")
policies_app = typer.Typer(help="How availability is computed: looked at, tried, changed.", no_args_is_help=True)
app.add_typer(policies_app, name="policies")
for name, feed_app in FEED_APPS.items():
    app.add_typer(feed_app, name=name)

Jobs = Annotated[int | None, typer.Option(min=1, max=256, help="Processes to fold with.", show_default="one per core")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")]
Scope = Annotated[
    str | None,
    typer.Argument(help="default, or sku:, channel:, supplier:, location: or score: and an id.", show_default="all"),
]
Fields = Annotated[list[str] | None, typer.Argument(help="field=value; an empty value takes a decision back.")]
PolicyFile = Annotated[
    Path | None, typer.Option("--file", help="JSON of many: an object by scope, of objects by field.")
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Of each scope named, what is not named is no longer decided; else it stays.")
]
Step = Annotated[int, typer.Option(min=1, max=100, help="Only scores that differ by so many points from the recorded.")]
ApiPort = Annotated[int | None, typer.Option(min=0, max=65535, help="Of the HTTP API.", show_default="8080")]


@app.command()
def up(
    data_dir: DataDir = None,
    api_port: ApiPort = None,
    broker_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of the embedded broker.", show_default="9092")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Worker processes.", show_default="1")] = None,
    feed: Annotated[int, typer.Option(min=0, help="Events of the retail demo to feed once all is up.")] = 0,
) -> None:
    """Start the broker (or use STOCKWEAVE_BOOTSTRAP_SERVERS), workers and API, and keep them running."""
    from stockweave.up import up as run

    settings = settings_of(data_dir=data_dir, api_port=api_port, broker_port=broker_port, workers=workers)
    configure_logs("up")
    run(settings, Console(), feed)


@app.command()
def worker(data_dir: DataDir = None) -> None:
    """Run one worker: folds updates into stock rows. Start more for more throughput."""
    with_kafka(settings_of(data_dir=data_dir))
    if data_dir is not None:
        os.environ["STOCKWEAVE_DATA_DIR"] = str(data_dir)  # the app reads its settings as it is imported, as faust does
    configure_logs("worker")
    share_one_heap()  # before what is imported next starts threads
    from streams.app import main as run

    run()


@app.command()
def api(data_dir: DataDir = None, api_port: ApiPort = None) -> None:
    """Run the HTTP API: takes suppliers' updates, answers what is available."""
    settings = with_kafka(settings_of(data_dir=data_dir, api_port=api_port))
    configure_logs("api")
    from stockweave.serve import main as run

    run(settings)


@app.command()
def verify(
    data_dir: DataDir = None,
    jobs: Jobs = None,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Check each supplier's outcome counts too; takes longer.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line for each partition, with digests.")] = False,
    checkpoint: Annotated[
        str | None, typer.Option("--from", help="Begin with a checkpoint, by its name or address.")
    ] = None,
    json: Json = False,
) -> None:
    """Fold all updates again and compare with the live rows; exit code 65 when any differs. Changes nothing."""
    from stockweave.replay.spread import cores
    from stockweave.replay.verify.verify import run

    settings = settings_of(data_dir=data_dir)
    configure_logs("verify", level=logging.WARNING)
    if not run(settings, jobs or cores(), thorough=thorough, verbose=verbose, json=json, checkpoint=checkpoint):
        raise typer.Exit(os.EX_DATAERR)


@app.command()
def rebuild(
    data_dir: DataDir = None,
    api_port: ApiPort = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which rows would change.")] = False,
    partitions: Annotated[
        str | None, typer.Option(help="Fold these alone anew, as in 0,2-3; the others are taken over as they are.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--from", help="Begin with a checkpoint, by its name or address.")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Make the generation before live again.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Only say which generations there are.")] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Give up the generation that is being rebuilt, or else the one before.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Give up what was begun, and begin anew.")] = False,
    jobs: Jobs = None,
    yes: Yes = False,
) -> None:
    """Fold all updates into a new generation of rows beside the live one, and make it live; it goes on where it was."""
    from stockweave.replay.rebuild.command import Asked, run

    settings = settings_of(data_dir=data_dir, api_port=api_port)
    configure_logs("rebuild", level=logging.WARNING)
    asked = Asked(
        dry_run=dry_run, partitions=partitions, checkpoint=checkpoint, back=back, status=status, discard=discard,
        restart=restart, jobs=jobs, yes=yes,
    )  # fmt: skip
    run(settings, asked)


@app.command()
def explain(
    sku: Annotated[str, typer.Argument(help="Whose number is asked about.")],
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="As it was known then: RFC 3339 or ms since 1970.", show_default="now")
    ] = None,
    data_dir: DataDir = None,
    everything: Annotated[bool, typer.Option("--all", help="All sources, deltas and refusals, however many.")] = False,
    json: Json = False,
) -> None:
    """Say why a SKU's number is what it is: each source's updates and what had no effect. Changes nothing."""
    from stockweave.replay.explain.command import run

    settings = settings_of(data_dir=data_dir)
    configure_logs("explain", level=logging.WARNING)
    run(settings, sku, as_of, everything=everything, json=json)


@checkpoint_app.command("create")
def checkpoint_create(
    data_dir: DataDir = None,
    to: Annotated[
        str | None, typer.Option(help="A folder or fsspec address.", show_default="STOCKWEAVE_CHECKPOINTS")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Fold the updates again and compare, as `stockweave verify` does.")
    ] = False,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Write the live rows and positions into files and read them back, while workers go on."""
    from stockweave.replay.checkpoint.create import run
    from stockweave.replay.spread import cores

    settings = settings_of(data_dir=data_dir)
    configure_logs("checkpoint", level=logging.WARNING)
    run(settings, to, jobs or cores(), verify=verify, json=json)


@checkpoint_app.command("list")
def checkpoint_list(data_dir: DataDir = None, json: Json = False) -> None:
    """Say which checkpoints there are, what they hold, and which fit the logs that there are."""
    from stockweave.replay.checkpoint.listing import run

    settings = settings_of(data_dir=data_dir)
    configure_logs("checkpoint", level=logging.WARNING)
    run(settings, json=json)


@checkpoint_app.command("restore")
def checkpoint_restore(
    name: Annotated[str, typer.Argument(help="Of the checkpoint, or its address.")],
    data_dir: DataDir = None,
    api_port: ApiPort = None,
    jobs: Jobs = None,
    yes: Yes = False,
) -> None:
    """Bring its rows back, fold what came since, and make them live: the same as `stockweave rebuild --from NAME`."""
    rebuild(data_dir=data_dir, api_port=api_port, checkpoint=name, jobs=jobs, yes=yes)


@checkpoint_app.command("trim")
def checkpoint_trim(
    name: Annotated[str | None, typer.Argument(help="Of the checkpoint.", show_default="the newest verified")] = None,
    data_dir: DataDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Yes = False,
) -> None:
    """Delete the updates that a verified checkpoint stands for from Kafka."""
    from stockweave.replay.checkpoint.trim import run
    from stockweave.replay.rebuild.command import confirm

    settings = settings_of(data_dir=data_dir)
    configure_logs("checkpoint", level=logging.WARNING)
    run(settings, name, partial(confirm, yes=yes), dry_run=dry_run)


@policies_app.command("get")
def policies_get(scope: Scope = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Print the policies that hold."""
    from stockweave.policies.command import get

    settings = settings_of(data_dir=data_dir)
    configure_logs("policies", level=logging.WARNING)
    get(settings, scope, json=json)


@policies_app.command("set")
def policies_set(
    scope: Scope = None,
    fields: Fields = None,
    file: PolicyFile = None,
    replace: Replace = False,
    if_version: Annotated[
        int | None, typer.Option("--if-version", min=0, help="Only if the scope has this version; 0: none yet.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Change policies; workers and API follow at once. `diff` with the same words says what would come of it."""
    from stockweave.policies.command import Asked, set_policies

    settings = settings_of(data_dir=data_dir)
    configure_logs("policies", level=logging.WARNING)
    set_policies(settings, Asked(scope, fields or (), file, replace), if_version, json=json)


@policies_app.command("diff")
def policies_diff(
    scope: Scope = None,
    fields: Fields = None,
    file: PolicyFile = None,
    replace: Replace = False,
    everything: Annotated[bool, typer.Option("--all", help="Every number, however many.")] = False,
    data_dir: DataDir = None,
    jobs: Jobs = None,
    json: Json = False,
) -> None:
    """Say how many SKUs a change would touch, and which, by the rows as they are now. Changes nothing."""
    from stockweave.policies.command import Asked, diff
    from stockweave.replay.spread import cores

    settings = settings_of(data_dir=data_dir)
    configure_logs("policies", level=logging.WARNING)
    diff(settings, Asked(scope, fields or (), file, replace), jobs or cores(), everything=everything, json=json)


@policies_app.command("history")
def policies_history(scope: Scope = None, data_dir: DataDir = None, json: Json = False) -> None:
    """Print every change, the oldest first; Kafka keeps them for 90 days, and the newest of a scope for ever."""
    from stockweave.policies.command import history

    settings = settings_of(data_dir=data_dir)
    configure_logs("policies", level=logging.WARNING)
    history(settings, scope, json=json)


@policies_app.command("scores")
def policies_scores(step: Step = 5, data_dir: DataDir = None) -> None:
    """Print suppliers' scores that are not as they are recorded, as a file for `diff` and `set`. Changes nothing."""
    from stockweave.policies.scores import show

    settings = settings_of(data_dir=data_dir)
    configure_logs("policies", level=logging.WARNING)
    show(settings, step)


@policies_app.command("record-scores")
def policies_record_scores(
    step: Step = 5,
    hold: Annotated[float, typer.Option(min=0, help="Seconds for which a score has to stay another.")] = 1_800,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 60,
    data_dir: DataDir = None,
) -> None:
    """Record suppliers' scores for policies, when they have changed and stay so, until told to stop."""
    from stockweave.policies.scores import Steady, follow, until_told

    settings = settings_of(data_dir=data_dir)
    configure_logs("policies")
    follow(settings, Steady(step, int(hold * 1_000)), every, until_told())


@app.command()
def version() -> None:
    """Print the installed version."""
    try:
        typer.echo(installed_version("stockweave"))
    except PackageNotFoundError as error:
        raise Fatal("stockweave is not installed here: run `make setup`, or `pip install .`") from error


def main() -> None:
    """Entry point of the command."""
    try:
        app()
    except StockweaveError as error:
        sys.stderr.write(f"stockweave: {error}\n")
        sys.exit(_exit_code(error))


def _exit_code(error: StockweaveError) -> int:
    match error:
        case Rejected():
            return os.EX_DATAERR
        case Retriable():
            return os.EX_TEMPFAIL
        case _:
            return os.EX_CONFIG
