"""What happens in a run, and when: a list of actions, drawn from a seed, that can be shortened and still be played."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation import disk
from tests.simulation.kafka import consumer, producer

KILLS = ("kill_before", "kill_after")
HOLD = "stop"

CALLS: dict[str, tuple[str, ...]] = {
    call: (*kinds, *KILLS) for call, kinds in (producer.FAULTS | consumer.FAULTS | disk.FAULTS).items()
}
"""The faults that can be met at each call."""

RARE = ("resume", "delete_folder", "open_folder", "seek", "begin_transaction", "init_transactions", "consume")
OFTEN = ("commit_transaction", "send_offsets_to_transaction", "deliver", "flush")
WEIGHTS = {call: 1 if call in RARE else 6 if call in OFTEN else 3 for call in CALLS}
FIRST: dict[str, Callable[[str], tuple[str, str, int, str, str]]] = {
    "abort_transaction": lambda who: ("fault", who, 1, "send_offsets_to_transaction", "abortable"),
    "init_transactions": lambda who: ("killed_anywhere", who, 3, "", ""),
    "open_folder": lambda who: ("killed_anywhere", who, 3, "", ""),
    "delete_folder": lambda who: ("away_for_a_day", who, 0, "", ""),
}
"""What leads to a call that is seldom made by itself."""

VIEW_CALLS = ("consume", "write_batch", "open_folder", "delete_folder")

WORLD_FAULTS = (
    "session_expired",
    "worker_stopped",
    "killed_anywhere",
    "transaction_timed_out",
    "markers_lost",
    "compacted",
    "updates_trimmed",
    "away_for_a_day",
    "disk_wiped",
)
"""What befalls processes and topics from outside."""


@dataclass(frozen=True)
class Action:
    """One thing that happens. `who`: a process; `number`: how many, or how often the call is reached first."""

    what: str
    who: str = ""
    number: int = 0
    call: str = ""
    fault: str = ""

    def __str__(self) -> str:
        match self.what:
            case "feed":
                return f"{self.number} updates are sent"
            case "policy":
                return "a policy is changed"
            case "run":
                return f"{self.who} goes {self.number} steps"
            case "fault" if self.fault == HOLD:
                return f"{self.who} is held up before {self.call} (time {self.number})"
            case "fault":
                return f"{self.who} goes to {self.call} (time {self.number}): {self.fault}"
            case _:
                return " ".join(str(part) for part in (self.what, self.who, self.number or "") if part)


def drawn(rng: random.Random, workers: list[str], views: list[str], length: int, *, tears: bool) -> list[Action]:
    """A schedule of about `length` actions. `tears`: markers of transactions are lost in it."""
    actions = [Action("feed", "", rng.randint(5, 30)), *(Action("run", name, 30) for name in workers)]
    calls, weights = list(WEIGHTS), list(WEIGHTS.values())
    while len(actions) < length:
        shape = rng.random()
        worker = rng.choice(workers)
        if shape < 0.12:
            actions.append(Action("feed", "", rng.randint(1, 10)))
        elif shape < 0.40:
            actions.append(Action("run", rng.choice(workers + views), rng.randint(1, 60)))
        elif shape < 0.70:
            call = rng.choices(calls, weights)[0]
            actions.append(Action("feed", "", rng.randint(1, 6)))  # something to do, so that the call is reached
            if call in FIRST:
                actions.append(Action(*FIRST[call](worker)))
            actions.append(Action("fault", worker, rng.randint(1, 3), call, rng.choice(CALLS[call])))
        elif shape < 0.73 and tears:
            actions += _torn(rng, worker)
        elif shape < 0.78:  # held up in the midst of something, while the world goes on
            call = rng.choice(
                ("deliver", "send_offsets_to_transaction", "commit_transaction", "write_batch", "committed")
            )
            actions.append(Action("feed", "", rng.randint(1, 6)))
            actions.append(Action("fault", worker, 1, call, HOLD))
            actions.append(Action(rng.choice(("session_expired", "run", "marker", "compacted")), worker, 1))
            actions.append(Action("run", rng.choice(workers), rng.randint(20, 80)))
        elif shape < 0.82:
            call = rng.choice(VIEW_CALLS)
            actions.append(Action("fault", rng.choice(views), rng.randint(1, 3), call, rng.choice(CALLS[call])))
        elif shape < 0.86:
            actions.append(Action("marker", "", rng.randrange(8)))
        elif shape < 0.90:
            actions.append(Action("policy"))
        else:
            actions.append(Action(rng.choice(WORLD_FAULTS), rng.choice(workers + views), rng.randrange(1_000)))
    return actions


def _torn(rng: random.Random, worker: str) -> list[Action]:
    """A commit whose markers are lost, and something by which that may show."""
    shown_by = (
        Action("fault", worker, 1, "send_offsets_to_transaction", "abortable"),
        Action("fault", worker, 1, "flush", "delivery_failed"),
        Action("transaction_timed_out", "", rng.randrange(8)),
        Action("killed_anywhere", worker, 3),
    )
    return [
        Action("feed", "", rng.randint(1, 6)),
        Action("fault", worker, 1, "commit_transaction", "tear"),
        Action("feed", "", rng.randint(1, 6)),
        rng.choices(shown_by, (3, 2, 1, 2))[0],
    ]
