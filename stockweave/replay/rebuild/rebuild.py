"""`stockweave rebuild`: folds all facts into a new generation beside the live one, and makes it live by one record.

Invariant: readers and workers never see a row of the candidate before the record names it live, and the record does so
only after all that was folded has been read back. The rebuild writes a candidate before that record and workers after
it, so no two ever write one; it may be stopped anywhere, and the next run goes on from what Kafka has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from rich.console import Console

from schemas.admin import Deployed, create_generation, ensure_topics, find_generation, topics_in_use
from schemas.generations import FACTS, PREVIOUS, Generation, Generations, Plan
from schemas.topics import UPDATES
from stockweave.errors import Fatal, Retriable
from stockweave.folder_lock import lock_folder
from stockweave.meter import Meter
from stockweave.replay.checkpoint.load import Checkpoint
from stockweave.replay.checkpoint.lookup import begin_with
from stockweave.replay.ends import log_ends
from stockweave.replay.rebuild.fold import Candidate, FoldTask, Proof, ProofTask
from stockweave.replay.rebuild.follow import await_followers
from stockweave.replay.rebuild.plan import Wanted, check_partitions, going_on, new_plan, rules_digest
from stockweave.replay.rebuild.positions import Reach, positions, reaches
from stockweave.replay.rebuild.record import Record, delete_topics, generation
from stockweave.replay.scratch import scratch_folder
from stockweave.replay.session import kafka
from stockweave.replay.spread import over_partitions
from stockweave.settings import Settings

ROUNDS_MAX = 20
LAG_EVENTS_MAX = 10_000
LAG_S_MAX = 1.0

Confirm = Callable[[str], None]
"""Asks whether to go on; raises when not."""


def run(settings: Settings, wanted: Wanted, jobs: int, confirm: Confirm, *, restart: bool = False) -> None:
    """The command: rebuild, or go on with what was begun, and say on stdout what came of it; progress goes to stderr.

    Raises:
        Fatal: it cannot be done this way; nothing that is live has changed.
        Retriable: Kafka does not answer; the next run goes on.
    """
    notes, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
    )
    with (
        lock_folder(settings.data_dir.absolute() / "rebuild", "rebuild"),
        kafka(settings, notes) as connected,
        scratch_folder(settings.data_dir) as folder,
        closing(Record(connected)) as record,
    ):
        rebuild = Rebuild(connected, record, folder, jobs, notes, out)
        try:
            rebuild.begin(wanted, confirm, restart=restart)
            rebuild.build()
        except KeyboardInterrupt:
            out.print("stopped; what is committed is kept: the same command goes on, `--discard` gives it up")
            raise
        rebuild.switch()


def discard(settings: Settings, confirm: Confirm) -> None:
    """The command with `--discard`: give the candidate up, or else the previous generation.

    Raises:
        Fatal: there is neither.
        Retriable: Kafka does not answer.
    """
    notes, out = (
        Console(stderr=True, highlight=False),
        Console(highlight=False, soft_wrap=True, markup=False, emoji=False),
    )
    with (
        lock_folder(settings.data_dir.absolute() / "rebuild", "rebuild"),
        kafka(settings, notes) as connected,
        closing(Record(connected)) as record,
    ):
        now = record.take_over()
        given_up = now.candidate or now.previous
        if given_up is None:
            raise Fatal(f"there is nothing to discard: generation {now.live.number} is live, and no other is kept")
        kept = now.previous if now.candidate is not None else None
        what = "candidate" if now.candidate is not None else "previous generation, and with it the way back,"
        confirm(f"The {what} {given_up.number} in topic {given_up.topic} will be deleted.")
        delete_topics(connected, record.write(now.live, None, kept, None))
        out.print(f"generation {given_up.number} is deleted; generation {now.live.number} is live")


class Rebuild:
    """One run.

    Args:
        settings: `bootstrap_servers` answers.
        record: not yet taken over.
        folder: scratch space, empty.
        jobs: processes.
        notes: where progress is shown.
        out: where results are.
    """

    def __init__(
        self, settings: Settings, record: Record, folder: Path, jobs: int, notes: Console, out: Console
    ) -> None:
        self._settings = settings
        self._bootstrap_servers = settings.bootstrap_servers or ""
        self._record = record
        self._folder = folder
        self._jobs = jobs
        self._notes = notes
        self._out = out
        self._rate = 0.0  # updates and facts a second, of the fastest round
        self._at: dict[int, Reach] = {}  # where each partition is
        self._made: Candidate

    def begin(self, wanted: Wanted, confirm: Confirm, *, restart: bool) -> None:
        """Take the record over, and make a candidate, or find the one that was begun.

        Raises:
            Fatal: there are no live rows, what was begun was begun otherwise, or there is nothing to go back to.
        """
        now = self._record.take_over()
        wanted, checkpoint = self._beginning(now, wanted, restart=restart)
        live = live_generation(self._settings, now)
        check_partitions(wanted.partitions, live.partitions)
        needs_live = checkpoint is None or wanted.partitions is not None
        if needs_live and not positions(self._bootstrap_servers, live.name, range(live.partitions)):
            raise Fatal(
                f"{live.name} has no position yet: nothing was ever folded, so there is nothing to rebuild; "
                "start a worker (`stockweave up`)"
            )
        given_up = now.candidate if restart else None
        if given_up is not None:
            confirm(f"What is there of generation {given_up.number} in topic {given_up.topic} is deleted.")
            delete_topics(self._settings, self._record.write(now.live, None, now.previous, None))
            now = Generations(now.live, None, now.previous)
        rules = rules_digest(self._settings)
        plan = new_plan(wanted, rules) if now.candidate is None else going_on(now, wanted, rules)
        previous = self._previous(now) if plan.begin == PREVIOUS else None
        if now.previous is not None and previous is None:
            confirm(
                f"The generation before, {now.previous.number} in topic {now.previous.topic}, is deleted once the new "
                f"one is live: the way back then leads to generation {now.live.number}."
            )
        if now.candidate is not None:
            topic = self._candidate(now.candidate)
        else:
            topic = self._new_candidate(now, plan, 0 if given_up is None else given_up.number)
        self._made = Candidate(
            self._settings, self._settings.topic(UPDATES.name), topic, live, previous, plan, self._folder
        )

    def _beginning(self, now: Generations, wanted: Wanted, *, restart: bool) -> tuple[Wanted, Checkpoint | None]:
        """The checkpoint to begin with, or None, and the wish with its address."""
        plan = now.plan if now.candidate is not None and not restart else None
        name = plan.begin if plan is not None and wanted.begin is None else wanted.begin
        if name in (FACTS, PREVIOUS):
            return wanted, None
        if name is None:
            live_generation(
                self._settings, now
            )  # else it is made here: its rows may be lost, and the checkpoint is not
        topics = topics_in_use(self._settings, self._bootstrap_servers)
        partitions = wanted.partitions if plan is None else plan.partitions
        everywhere = range(topics[UPDATES.name].partitions)
        check_partitions(partitions, len(everywhere))
        needed = everywhere if partitions is None else partitions
        found = begin_with(self._settings, topics, name, needed)
        if found is None:
            return wanted, None
        if plan is None:
            found.check(needed)  # else a candidate would be begun that can never be made
        self._notes.print(f"beginning with the checkpoint {found.address}", markup=False)
        return Wanted(found.address, wanted.partitions), found

    def _previous(self, now: Generations) -> Deployed:
        if now.previous is None:
            raise Fatal(f"there is no way back: no generation before {now.live.number} is kept")
        found = find_generation(self._settings, self._bootstrap_servers, now.previous)
        if found is None:
            raise Fatal(f"there is no way back: topic {now.previous.topic} of generation {now.previous.number} is gone")
        return found

    def _candidate(self, named: Generation) -> Deployed:
        found = find_generation(self._settings, self._bootstrap_servers, named)
        if found is None:
            raise Fatal(
                f"topic {named.topic} of generation {named.number}, which was being rebuilt, is gone; begin anew with "
                "--restart"
            )
        self._notes.print(f"going on with generation {found.number} in {found.name}")
        return found

    def _new_candidate(self, now: Generations, plan: Plan, above: int) -> Deployed:
        ensure_topics(self._settings, self._bootstrap_servers)  # the record's topic, where there was none
        number = self._record.free_number(now, above)
        made = create_generation(self._settings, self._bootstrap_servers, number)
        unnamed = self._record.write(now.live, generation(number, self._settings), now.previous, plan)
        delete_topics(self._settings, unnamed)
        self._notes.print(f"rebuilding into generation {number} in {made.name}")
        return made

    def build(self) -> None:
        """Fold, catch up with the workers, read all back, and catch up once more.

        Raises:
            Fatal: the log lacks updates, or what was read back is not what was folded.
            Retriable: Kafka does not answer, or the updates come faster than they are folded.
        """
        made = self._made
        partitions = range(made.topic.partitions)
        at = reaches(positions(self._bootstrap_servers, made.topic.name, partitions), partitions)
        self._catch_up("rebuilding", at)
        ends = log_ends(self._bootstrap_servers, made.topic.name, partitions)
        records = {number: high - low for number, (low, high) in ends.items()}
        with Meter(self._notes, "reading back", 0, "records") as meter:
            proofs = over_partitions(ProofTask(made), partitions, self._jobs, meter, records)
        self._tell(proofs)
        if self._lag():
            # What this adds is not read back: workers begin with what Kafka has of it, whatever that is.
            self._catch_up("catching up", self._at)

    def _catch_up(self, title: str, at: dict[int, Reach]) -> None:
        """Fold until the workers are less than a moment ahead; the writing of every partition is taken over."""
        made = self._made
        partitions = range(made.topic.partitions)
        unit = "updates" if made.plan.begin == FACTS and made.plan.partitions is None else "records"
        for _ in range(ROUNDS_MAX):
            until = self._live_reaches()
            missing = {number: at[number].behind(until[number]) for number in partitions}
            began_s = time.monotonic()
            with Meter(self._notes, title, 0, unit) as meter:
                advances = over_partitions(FoldTask(made, until), partitions, self._jobs, meter, missing)
            at = self._at = {number: advance.at for number, advance in advances.items()}
            events = sum(advance.events for advance in advances.values())
            self._rate = max(self._rate, events / (time.monotonic() - began_s))
            lag = self._lag()
            if lag <= max(LAG_EVENTS_MAX, self._rate * LAG_S_MAX):
                return
            title = "catching up"
        raise Retriable(
            f"after {ROUNDS_MAX} rounds the workers are still {lag:,} updates and facts ahead, at {self._rate:,.0f} a "
            "second folded here; what is folded is kept: run it again with more --jobs, or when fewer updates come"
        )

    def _lag(self) -> int:
        """Updates and facts that the workers have in their rows, and the rebuild has not."""
        return sum(self._at[number].behind(reach) for number, reach in self._live_reaches().items())

    def _live_reaches(self) -> dict[int, Reach]:
        live = self._made.live
        partitions = range(live.partitions)
        return reaches(positions(self._bootstrap_servers, live.name, partitions), partitions)

    def _tell(self, proofs: Mapping[int, Proof]) -> None:
        names = ("rows", "events", "holds", "facts")
        of = {name: sum(getattr(proof, name) for proof in proofs.values()) for name in names}
        holds = f", and {of['holds']:,} holds of {of['facts']:,} facts," if of["facts"] else ""
        self._out.print(
            f"generation {self._made.topic.number}: {of['rows']:,} rows of {of['events']:,} updates{holds} in "
            f"{len(proofs)} partitions were folded, and read back the same"
        )

    def switch(self) -> None:
        """Make the candidate live, wait a while until it is seen to be followed, and say what was seen.

        Raises:
            Fatal: another rebuild has taken over; nothing has changed.
            Retriable: Kafka does not answer; `--status` tells which generation is live.
        """
        old, new = self._made.live, self._made.topic
        unnamed = self._record.write(
            generation(new.number, self._settings), None, generation(old.number, self._settings), None
        )
        self._out.print(f"generation {new.number} is live; generation {old.number} is kept for the way back")
        for line in await_followers(self._settings, old, new, self._at):
            self._out.print(line)
        delete_topics(self._settings, unnamed)
        for name in unnamed:
            self._out.print(f"topic {name} is deleted")


def live_generation(settings: Settings, now: Generations) -> Deployed:
    """The live generation as deployed.

    Raises:
        Fatal: its topic is not there.
    """
    found = find_generation(settings, settings.bootstrap_servers or "", now.live)
    if found is None:
        raise Fatal(
            f"topic {now.live.topic} of the live generation {now.live.number} is not there: start a worker "
            "(`stockweave up`), which makes it and folds all updates into it"
        )
    return found
