"""What went to Kafka together, and what became of each: acknowledged, refused, or in doubt. Made by the publisher."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaError, Message

REFUSED = "refused_by_kafka"
IN_DOUBT = "in_doubt"

_REFUSALS = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD}


class Receipt(NamedTuple):
    """Where an update lies in Kafka."""

    topic: str
    partition: int
    offset: int


class Failure(NamedTuple):
    """An update that was not acknowledged. `place`: in its parcel, from 0; `reason`: `REFUSED` or `IN_DOUBT`."""

    place: int
    reason: str
    detail: str


class Parcel:
    """Updates that went to Kafka together.

    `offsets`: the highest acknowledged one by partition; `failures`: what was not acknowledged, in the order of the
    parcel. Both are complete once `done` is.

    Args:
        values: as they went.
        reported: takes the parcel once all reports are in (poll thread).
        settled: called once its outcome is complete.
    """

    def __init__(
        self, values: Sequence[bytes], reported: Callable[[Parcel], None], settled: Callable[[Parcel], None]
    ) -> None:
        self.offsets: dict[int, int] = {}
        self.failures: list[Failure] = []
        self.began_s = time.perf_counter()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._values = values
        self._reported = reported
        self._settled = settled
        self._expected = len(values)  # set by the loop's thread
        self._counted = 0  # set by the poll thread alone
        self._failed: list[tuple[bytes, KafkaError]] = []

    def on_delivery(self, error: KafkaError | None, message: Message) -> None:
        """Count one report (poll thread). Reports of a partition come in the order of its offsets."""
        if error is None:
            self.offsets[message.partition()] = message.offset()  # type: ignore[index, assignment]
        else:
            self._failed.append((message.value(), error))  # type: ignore[arg-type]
        self._counted += 1
        if self._counted == self._expected:
            self._reported(self)

    def refuse(self, value: bytes, error: KafkaError) -> None:
        """Count one that the client did not take, and that gets no report (loop's thread)."""
        self._failed.append((value, error))
        self._expected -= 1
        if self._counted == self._expected:
            self.done.get_loop().call_soon(self.finish)

    def finish(self) -> None:
        """All reports are in (loop's thread)."""
        if self.done.done():
            return  # both threads may have seen the last count
        if self._failed:
            places: dict[bytes, list[int]] = {}
            for place, value in enumerate(self._values):
                places.setdefault(value, []).append(place)
            self.failures = sorted(_failure(places[value].pop(), error) for value, error in self._failed)
        self.done.set_result(None)
        self._settled(self)

    @property
    def fatal(self) -> KafkaError | None:
        """The error after which the producer is of no more use, if there was one."""
        return next((error for _, error in self._failed if error.fatal()), None)


def finish(parcels: Iterable[Parcel]) -> None:
    """All of them, whose reports are in (loop's thread)."""
    for parcel in parcels:
        parcel.finish()


def _failure(place: int, error: KafkaError) -> Failure:
    if error.code() in _REFUSALS:
        return Failure(place, REFUSED, f"was refused by Kafka ({error.str()}); make it smaller")
    return Failure(
        place,
        IN_DOUBT,
        f"is in doubt: Kafka did not acknowledge it ({error.str()}); send it again with the same updateId, "
        "a repeat is recognised",
    )
