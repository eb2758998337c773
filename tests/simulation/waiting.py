"""Whether a run has come to rest: everything is folded, decided, told and followed, and nothing is left to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas import keys
from schemas.reservations import Hold, decode_hold
from schemas.topics import COMMANDS, RESERVATION_STEPS, STOCK
from state.store import PartitionStore
from tests.simulation.checks import folded_to

if TYPE_CHECKING:
    from tests.simulation.world import Simulation

LATE_MS = 2_000  # by so much and a hundredth of the time that it is kept, a hold may be forgotten too late
CROSSED = "nobody tells that"  # all else is done, and a row is in another alert state than it says


def all_folded(simulation: Simulation) -> bool:
    """Whether there is nothing left to do for anybody."""
    return not what_waits(simulation)


def what_waits(simulation: Simulation) -> str:
    """In words; empty when nothing does."""
    served = {n: (worker.process.name, store) for worker in simulation.workers for n, store in worker.ready().items()}
    view = simulation.view.view
    for number in range(simulation.scenario.partitions):
        last = simulation.auditor.end(number)
        if number not in served:
            return f"partition {number} is served by nobody"
        who, store = served[number]
        at = folded_to(store.position)
        if at < last:
            return f"partition {number} is folded to {at} of {last} by {who}"
        position, commands = store.position, max(simulation.decisions.asked[number], default=-1)
        if commands >= (0 if position is None else position.offsets.get(COMMANDS.name, 0)):
            return f"command {commands} of partition {number} is not decided by {who}"
        if simulation.cluster.log(STOCK.name, number).open:
            return f"a transaction hangs in partition {number} of the rows"
        if view is None or not view.partitions[number].caught_up:
            return f"the view of partition {number} has not caught up"
        if view.partitions[number].mark.next_offset < simulation.cluster.log(STOCK.name, number).stable_end:
            return f"the view of partition {number} is behind"
        if waits := _hold_waits(simulation, number, list(map(decode_hold, dict(store.holds()).values()))):
            return f"{waits} by {who}"
    return _crossing_waits(simulation, {number: store for number, (_, store) in served.items()})


def _hold_waits(simulation: Simulation, number: int, holds: list[Hold]) -> str:
    now_ms, steps = simulation.clock.now_ms(), simulation.cluster.log(RESERVATION_STEPS.name, number)
    if lapsed := [hold for hold in holds if hold.has_expired(now_ms)]:
        return f"{lapsed[0]} of partition {number} has lapsed, and is not ended"
    if silent := [hold for hold in holds if any(line.asked for line in hold.lines)]:
        return f"lines of {silent[0]} of partition {number} have not answered, as is seen"
    if steps.open:
        return f"a transaction hangs in partition {number} of the steps, which is not written"
    if any(worker.is_covering(number) for worker in simulation.workers):
        return f"holds of partition {number} that need another source are looked for"
    if past := [hold for hold in holds if _kept_too_long(simulation, number, hold)]:
        return f"{past[0]} of partition {number} was over long ago, and is not forgotten"
    return ""


def _kept_too_long(simulation: Simulation, number: int, hold: Hold) -> bool:
    """Whether it should have been forgotten; from when it was last written on, for what is written is not forgotten.

    After its end that may be for a line's answer, a change that was refused, or units that a supplier tells of.
    """
    retention_ms = simulation.scenario.retention_ms
    late_from = simulation.clock.now_ms() - retention_ms // 100 - LATE_MS
    if hold.ended_at is None or hold.ended_at + retention_ms >= late_from:
        return False
    key = keys.hold_key(hold.sku, hold.reservation_id)
    written = [r.timestamp for r in simulation.cluster.log(STOCK.name, number).records if r.key == key]
    return max(written, default=0) < late_from


def _crossing_waits(simulation: Simulation, stores: dict[int, PartitionStore]) -> str:
    for number, store in stores.items():
        if crossed := simulation.crossings.waits(dict(store.rows()).values(), simulation.clock.now_ms()):
            return f"{CROSSED} {crossed}, in partition {number}"
    return ""
