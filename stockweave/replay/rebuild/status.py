"""`stockweave rebuild --status`: which generations there are, and how far each is folded. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from schemas.admin import find_generation
from schemas.generation_log import read
from schemas.generations import FACTS, PREVIOUS, Generation, Generations, Plan
from stockweave.replay.rebuild.positions import offsets, positions
from stockweave.replay.rebuild.record import generation_topics
from stockweave.replay.session import kafka
from stockweave.replay.verify.report import iso
from stockweave.settings import Settings


def run(settings: Settings) -> None:
    """The command: say it on stdout.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: the record cannot be read.
    """
    notes, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
    )
    with kafka(settings, notes) as connected:
        for line in lines(connected):
            out.print(line)


def lines(settings: Settings) -> Iterator[str]:
    """What there is, a line each."""
    now = read(settings, settings.bootstrap_servers or "")
    since = f" since {iso(now.changed_at)}" if now.changed_at and now.candidate is None else ""
    yield f"live: {_state(settings, now.live)}{since}"
    if now.candidate is not None:
        yield f"candidate: {_state(settings, now.candidate, now.live)}; {_begun(now)}"
    if now.previous is not None:
        yield f"previous: {_state(settings, now.previous)}, kept for `stockweave rebuild --back`"
    named = {g.topic for g in (now.live, now.candidate, now.previous) if g is not None}
    for topic in sorted(generation_topics(settings).keys() - named):
        yield f"left over: topic {topic}, deleted by the next rebuild"


def _state(settings: Settings, generation: Generation, ahead: Generation | None = None) -> str:
    """Topic and updates folded; with `ahead`, of how many that are folded there."""
    where = f"generation {generation.number} in topic {generation.topic}"
    done = _folded(settings, generation)
    if done is None:
        return f"{where}, which is not there"
    of = "" if ahead is None else f" of {_folded(settings, ahead) or 0:,}"
    return f"{where}, {done:,}{of} updates folded"


def _folded(settings: Settings, generation: Generation) -> int | None:
    """The sum of the offsets that its partitions are folded up to; None where it has no topic."""
    bootstrap = settings.bootstrap_servers or ""
    found = find_generation(settings, bootstrap, generation)
    if found is None:
        return None
    partitions = range(found.partitions)
    return sum(offsets(positions(bootstrap, found.name, partitions), partitions).values())


def _begun(now: Generations) -> str:
    """How the candidate is made, and by which command it goes on."""
    plan = now.plan or Plan(FACTS, None, "")
    if plan.begin == PREVIOUS:
        return f"a way back since {iso(now.changed_at)}, which `stockweave rebuild --back` goes on with"
    begun = "from the first update" if plan.begin == FACTS else f"from the checkpoint {plan.begin}"
    which = "" if plan.partitions is None else f", partitions {', '.join(map(str, plan.partitions))} alone"
    return f"rebuilt {begun}{which} since {iso(now.changed_at)}; `stockweave rebuild` goes on with it"
