"""The `stockweave policies` commands: what holds, what was, what a change would touch, and the change itself.

A change is one transaction of all its policies, by one writer at a time: each begins with what the one before left.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from inventory.policies import DEFAULT_CHANNEL, Policies
from schemas.admin import ensure_topics
from schemas.codec import Codec
from schemas.generation_log import read as read_generations
from schemas.policies import Policy, kind_of, to_record
from schemas.policy_log import Change, read
from schemas.registry import open_registry
from schemas.topics import POLICIES
from stockweave.errors import Rejected
from stockweave.meter import Meter
from stockweave.policies.diff import DiffTask, Touched, partitions_of
from stockweave.policies.edit import Changes, edited, of_file, of_words
from stockweave.policies.table import policies_of
from stockweave.replay.ends import log_ends
from stockweave.replay.rebuild.rebuild import live_generation
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.session import kafka
from stockweave.replay.spread import over_partitions
from stockweave.replay.verify.report import iso
from stockweave.settings import Settings
from stockweave.writer import Produce, Writer

SHOWN_MAX = 20  # numbers that would change, unless all are asked for
ALL_MAX = 1_000_000


@dataclass(frozen=True)
class Asked:
    """A change, as given: a scope and words, or a file; `replace`: what is not named is no longer decided."""

    scope: str | None
    words: Sequence[str]
    file: Path | None
    replace: bool

    def changes(self) -> Changes:
        """What is to be decided, by scope.

        Raises:
            Rejected: it cannot be read.
            Fatal: the file cannot.
        """
        if self.file is not None:
            if self.scope is not None:
                raise Rejected("invalid_policy", "give either a scope and its fields, or --file", "scope")
            return of_file(self.file)
        if self.scope is None or not (self.words or self.replace):
            raise Rejected("invalid_policy", "give a scope and field=value, or --file; e.g. default safety_units=2")
        return of_words(self.scope, self.words)


def get(settings: Settings, scope: str | None, *, json: bool) -> None:
    """Print the policies that hold, or that of a scope.

    Raises:
        Rejected: there is none of that scope.
        Retriable: Kafka or the registry does not answer.
    """
    if scope is not None:
        kind_of(scope)
    with kafka(settings, _notes()) as connected:
        held = policies_of(_read(connected))
    policies = [p for p in held.by_scope.values() if p.decided() and scope in (None, p.scope)]
    if scope is not None and not policies:
        raise Rejected("unknown_scope", f"{scope} has no policy: `stockweave policies set {scope} ...` makes one")
    _print(policies, held.revision, json=json)


def history(settings: Settings, scope: str | None, *, json: bool) -> None:
    """Print the changes of all policies, or of a scope, the oldest first.

    Raises:
        Retriable: Kafka or the registry does not answer.
    """
    if scope is not None:
        kind_of(scope)
    with kafka(settings, _notes()) as connected:
        changes = [change for change in _read(connected) if scope in (None, change.policy.scope)]
    out = _out()
    if json:
        out.print_json(data=[{"revision": c.revision} | _as_json(c.policy) for c in changes], indent=None)
        return
    for change in changes:
        at = iso(change.policy.changed_at)[:19].replace("T", " ")
        out.print(f"{at} UTC  revision {change.revision}  {_line(change.policy)}")
    if not changes:
        out.print("no policy was ever set" if scope is None else f"{scope} never had a policy")


def set_policies(settings: Settings, asked: Asked, if_version: int | None, *, json: bool) -> None:
    """Change policies, and print what holds then.

    Args:
        settings: of the deployment.
        asked: the change.
        if_version: of the only scope; the change is made only if it still has that version (0: none yet).
        json: one JSON object in place of words.

    Raises:
        Rejected: a policy cannot be used, or has another version.
        Retriable: Kafka or the registry does not answer.
        Fatal: another command has just begun to write; nothing is changed by this one.
    """
    changes = asked.changes()
    if if_version is not None and len(changes) != 1:
        raise Rejected("invalid_policy", "--if-version is for a change of one scope", "if_version")
    with kafka(settings, _notes()) as connected:
        ensure_topics(connected, connected.bootstrap_servers or "")
        made, held = written(connected, changes, if_version, replace=asked.replace)
    if not made and not json:
        _out().print("nothing to change: it is so already")
    _print([held.by_scope[scope] for scope in changes if scope in held.by_scope], held.revision, json=json)


def written(
    connected: Settings, changes: Changes, if_version: int | None = None, *, replace: bool = False
) -> tuple[list[Policy], Policies]:
    """Make changes, in one transaction: the policies that became others, and all that hold then.

    Raises:
        Rejected, Retriable, Fatal: as `set_policies`.
    """
    writer = _writer(connected)
    try:
        writer.take_over()
        held = policies_of(_read(connected))
        for scope in changes if if_version is not None else ():
            version = held.by_scope.get(scope, Policy(scope)).version
            if version != if_version:
                said = f"{scope} has version {version}, not {if_version}; look at it, and decide again"
                raise Rejected("version_conflict", said, "if_version")
        made = edited(held.by_scope, changes, time.time_ns() // 1_000_000, replace=replace)
        if made:
            _commit(connected, writer, made)
            held = policies_of(_read(connected))
        return made, held
    finally:
        writer.close()


def diff(settings: Settings, asked: Asked, jobs: int, *, everything: bool, json: bool) -> None:
    """Print which numbers a change would touch; nothing is changed.

    Raises:
        Rejected: a policy cannot be used.
        Fatal: there are no live rows.
        Retriable: Kafka or the registry does not answer.
    """
    changes = asked.changes()
    notes = _notes()
    with kafka(settings, notes) as connected, scratch_folder(settings.data_dir) as folder:
        held = policies_of(_read(connected))
        made = edited(held.by_scope, changes, 0, replace=asked.replace)
        bootstrap = connected.bootstrap_servers or ""
        live = live_generation(connected, read_generations(connected, bootstrap))
        partitions = partitions_of(made, live.partitions)
        task = DiffTask(
            connected, live.name, list(held.by_scope.values()), made, folder, ALL_MAX if everything else SHOWN_MAX
        )
        ends = log_ends(bootstrap, live.name, partitions) if partitions else {}
        with Meter(notes, "reading", 0, "records") as meter:
            expected = {number: high - low for number, (low, high) in ends.items()}
            found = over_partitions(task, partitions, jobs, meter, expected).values() if made else ()
    rows, skus = sum(f.rows for f in found), sum(f.skus for f in found)
    first = sorted(touched for f in found for touched in f.first)
    out = _out()
    if json:
        numbers = [touched._asdict() for touched in (first if everything else first[:SHOWN_MAX])]
        out.print_json(data={"rows": rows, "skus": skus, "numbers": numbers}, indent=None)
        return
    for line in _differences(first, rows, skus, everything=everything):
        out.print(line)


def _differences(first: Sequence[Touched], rows: int, skus: int, *, everything: bool) -> Iterator[str]:
    shown = first if everything else first[:SHOWN_MAX]
    for touched in shown:
        where = "" if touched.channel == DEFAULT_CHANNEL else f" in channel {touched.channel}"
        yield f"{touched.sku}{where}: {touched.before:,} -> {touched.after:,}"
    if skus > len({touched.sku for touched in shown}):
        yield "and more; --all shows them"
    yield f"{skus:,} of {rows:,} SKUs would have another number; nothing is changed"


def _read(settings: Settings) -> list[Change]:
    return read(settings, settings.bootstrap_servers or "", Codec("Policy", open_registry(settings)))


def _writer(settings: Settings) -> Writer:
    said = "another command has begun to change the policies; look at them, and try again"
    return Writer(settings, POLICIES.name, "policies", said)


def _commit(settings: Settings, writer: Writer, policies: Iterable[Policy]) -> None:
    codec, topic = Codec("Policy", open_registry(settings)), settings.topic(POLICIES.name)

    def records(produce: Produce) -> None:
        for policy in policies:
            produce(topic, codec.encode(to_record(policy)), policy.scope.encode(), 0)

    writer.commit(records)


def _print(policies: Sequence[Policy], revision: int, *, json: bool) -> None:
    out = _out()
    if json:
        out.print_json(data={"revision": revision, "policies": list(map(_as_json, policies))}, indent=None)
        return
    for policy in sorted(policies, key=lambda policy: policy.scope):
        out.print(_line(policy))
    out.print(f"revision {revision}" if policies else "no policies: every number is the sum of its sources")


def _as_json(policy: Policy) -> dict[str, Any]:
    return {"scope": policy.scope, "version": policy.version, "changed_at": policy.changed_at} | policy.decided()


def _line(policy: Policy) -> str:
    decided = [f"{name}={_word(value)}" for name, value in policy.decided().items()]
    return f"{policy.scope} (version {policy.version}): {' '.join(decided) or 'decides nothing'}"


def _word(value: object) -> str:
    """As it is written in `field=value`."""
    return (
        ",".join(value) if isinstance(value, tuple) else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _notes() -> Console:
    return Console(stderr=True, highlight=False)


def _out() -> Console:
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
