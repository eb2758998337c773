"""For how long a hold is kept after its end: pure. Until then a retry gets the first answer, and after it a new one.

Invariant: what may still change is kept, however old; so is a reservation of several SKUs while a line has to answer. A
row keeps what a forgotten hold had of it: its sums go by themselves, once a count knows (see `reserved`). Called by the
worker that forgets, and by whoever compares holds or makes them anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from inventory.reservations.reserved import nets_at
from schemas.policies import NETTING_DELAY_MS_MAX
from schemas.reservations import Hold
from schemas.rows import Open

KEPT_MS_MIN = 86_400_000  # no setting is shorter


def forgotten_to(now_ms: int, retention_ms: int) -> int:
    """The time at or before which a hold must have ended to be forgotten at `now_ms`, of the decision clock."""
    return now_ms - retention_ms


def is_past(hold: Hold, to_ms: int) -> bool:
    """Whether a hold may be forgotten where all are that ended at or before `to_ms`."""
    return hold.ended_at is not None and hold.ended_at <= to_ms and not any(line.asked for line in hold.lines)


def is_explained(said: Mapping[str, list[Open]], taken: Mapping[str, list[Open]], to_ms: int) -> bool:
    """Whether what a row has reserved is what its holds take, and what forgotten ones may have left there.

    Args:
        said: of the row.
        taken: by the holds that there are.
        to_ms: others that ended at or before it may be forgotten: their units had left their source by then.
    """
    left_by = nets_at(to_ms, NETTING_DELAY_MS_MAX)  # of the slowest source
    for source in said.keys() | taken.keys():
        units = _units(said.get(source, ()))
        for kind, of_holds in _units(taken.get(source, ())).items():
            units[kind] = units.get(kind, 0) - of_holds
        for (_, _, fulfilled_at), more in units.items():
            if more < 0 or (more > 0 and (fulfilled_at is None or fulfilled_at > left_by)):
                return False
    return True


def _units(entries: Iterable[Open]) -> dict[tuple[str, int | None, int | None], int]:
    return {(entry.channel, entry.committed_at, entry.fulfilled_at): entry.units for entry in entries}
