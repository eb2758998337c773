"""What the options of `stockweave rebuild` mean together, and asking before anything is deleted. Called by the CLI."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial

import typer

from schemas.generations import PREVIOUS
from stockweave.errors import Fatal
from stockweave.replay.rebuild import dry_run, rebuild, status
from stockweave.replay.rebuild.plan import Wanted, parse_partitions
from stockweave.replay.spread import cores
from stockweave.settings import Settings


@dataclass(frozen=True)
class Asked:
    """The options as they were given."""

    dry_run: bool = False
    partitions: str | None = None
    checkpoint: str | None = None
    back: bool = False
    status: bool = False
    discard: bool = False
    restart: bool = False
    jobs: int | None = None
    yes: bool = False


def run(settings: Settings, asked: Asked) -> None:
    """Do it.

    Raises:
        Fatal: options that contradict each other, or what the command itself raises.
    """
    _check(asked)
    partitions = None if asked.partitions is None else parse_partitions(asked.partitions)
    wanted = Wanted(PREVIOUS if asked.back else asked.checkpoint, partitions)
    jobs, ask = asked.jobs or cores(), partial(confirm, yes=asked.yes)
    if asked.status:
        status.run(settings)
    elif asked.discard:
        rebuild.discard(settings, ask)
    elif asked.dry_run:
        dry_run.run(settings, wanted, jobs)
    else:
        rebuild.run(settings, wanted, jobs, ask, restart=asked.restart)


def confirm(text: str, *, yes: bool) -> None:
    """Ask whether to go on, unless that was agreed to with `--yes`.

    Raises:
        Fatal: nobody can be asked.
        click.Abort: the answer was no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise Fatal(f"{text} Nobody can be asked here: agree to it with --yes")
    typer.confirm(f"{text} Go on?", abort=True)


def _check(asked: Asked) -> None:
    alone = [("--status", asked.status), ("--discard", asked.discard), ("--dry-run", asked.dry_run)]
    given = [name for name, is_given in [*alone, ("--back", asked.back), ("--restart", asked.restart)] if is_given]
    if len(given) > 1 and given != ["--back", "--restart"]:
        raise Fatal(f"{' and '.join(given)} do not go together; give one of them")
    beside = [name for name, value in (("--partitions", asked.partitions), ("--from", asked.checkpoint)) if value]
    if beside and given and given[0] in ("--status", "--discard", "--back"):
        raise Fatal(f"{given[0]} does not go with {' and '.join(beside)}; leave that out")
