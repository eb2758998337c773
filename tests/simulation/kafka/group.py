"""The coordinator of one consumer group: members, who owns what, and offsets that travel in transactions.

After KIP-848: a partition goes to its next owner only after the former one has given it back or is out of the group. An
offset is taken from a member at its present epoch, or at an earlier one if it has had the partition since (KIP-1251).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from confluent_kafka import KafkaError

from tests.simulation.kafka.errors import abortable

Place = tuple[str, int]


@dataclass
class Member:
    """`epoch`: it grows whenever what anybody owns changes; `since`: the epoch at which each partition came to it."""

    id: str
    epoch: int
    owned: set[Place] = field(default_factory=set)
    since: dict[Place, int] = field(default_factory=dict)


class Group:
    """One group over the partitions of its topics."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = 0
        self.changes = 0  # of members and of what they own
        self.members: dict[str, Member] = {}
        self.places: list[Place] = []
        self.committed: dict[Place, int] = {}
        self.pending: dict[int, dict[Place, int]] = {}  # by producer, until the marker is here

    def join(self, member_id: str, places: list[Place]) -> None:
        """A member that owns nothing yet."""
        self.places = sorted(set(self.places) | set(places))
        self.epoch += 1
        self.changes += 1
        self.members[member_id] = Member(member_id, self.epoch)

    def leave(self, member_id: str) -> None:
        """By itself, or since nothing was heard of it for the length of a session."""
        if self.members.pop(member_id, None) is not None:
            self.epoch += 1
            self.changes += 1

    def target(self, member_id: str) -> set[Place]:
        """What the range assignor wants a member to own."""
        members = sorted(self.members)
        share, more = divmod(len(self.places), len(members))
        at = members.index(member_id)
        first = at * share + min(at, more)
        return set(self.places[first : first + share + (at < more)])

    def to_revoke(self, member_id: str) -> list[Place]:
        """What the member has to give back first."""
        return sorted(self.members[member_id].owned - self.target(member_id))

    def revoked(self, member_id: str, places: list[Place]) -> None:
        """The member has given it back."""
        self.changes += 1
        member = self.members[member_id]
        member.owned -= set(places)
        member.epoch = self.epoch
        member.since = {place: epoch for place, epoch in member.since.items() if place in member.owned}

    def to_assign(self, member_id: str) -> list[Place]:
        """What the member may have now: nobody else owns it any more."""
        member = self.members[member_id]
        taken = {place for other in self.members.values() if other is not member for place in other.owned}
        return sorted(self.target(member_id) - member.owned - taken)

    def assigned(self, member_id: str, places: list[Place]) -> None:
        """The member has it."""
        self.changes += 1
        member = self.members[member_id]
        member.owned |= set(places)
        member.epoch = self.epoch
        member.since |= dict.fromkeys(places, self.epoch)

    def offer(self, producer: int, offsets: dict[Place, int], member_id: str, epoch: int) -> None:
        """Take offsets into a producer's transaction.

        Raises:
            KafkaException: the member is out of the group, or was at another epoch; the transaction has to be undone.
        """
        if not member_id and epoch < 0:
            pass  # a client without a group passes unfenced, which is why nobody may send such
        elif (member := self.members.get(member_id)) is None:
            raise abortable(KafkaError.UNKNOWN_MEMBER_ID)
        elif member.epoch != epoch and any(member.since.get(place, epoch + 1) > epoch for place in offsets):
            raise abortable(KafkaError.ILLEGAL_GENERATION)
        self.pending.setdefault(producer, {}).update(offsets)

    def mark(self, producer: int, *, commit: bool) -> None:
        """The marker of a producer's transaction is here."""
        offsets = self.pending.pop(producer, {})
        if commit:
            self.committed.update(offsets)

    def unstable(self, place: Place) -> bool:
        """Whether a transaction that is still open holds an offset of it."""
        return any(place in offsets for offsets in self.pending.values())
