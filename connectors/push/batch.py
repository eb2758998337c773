"""One batch on its way: validates chunk after chunk, keeps a few under way to Kafka, and accounts for each line.

Invariant: every line up to `last_line` is accepted, rejected or in doubt, and the last two are listed; no line after it
went to Kafka. Memory does not grow with the batch: chunks under way are bounded, and the list is spooled to disk.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, NamedTuple, TypeVar

import orjson
from pydantic import ValidationError

from connectors.parcel import IN_DOUBT, Parcel
from connectors.publisher import Headers, Publisher
from connectors.push.models import InventoryUpdate
from connectors.push.validation import Fault, faults_of, record_of
from schemas.codec import Record
from stockweave.errors import Retriable
from stockweave.metrics import PUSHED_ACCEPTED, PUSHED_IN_DOUBT, PUSHED_REJECTED

CHUNKS_UNDER_WAY_MAX = 8
REST = 5  # times as long as it validated rests a batch that gives way: about a fifth of the interpreter is left to it
ERRORS_IN_MEMORY_BYTES_MAX = 1 << 20
ERRORS_BYTES_MAX = 64 << 20  # on disk; a batch that fails this much is stopped

_Sent = TypeVar("_Sent")


class Stop(NamedTuple):
    """Why a batch ended before its end."""

    status: int
    reason: str
    detail: str
    retry_after_s: int | None = None


class LineError(NamedTuple):
    """A line that was not accepted."""

    line: int
    fault: Fault

    def encoded(self) -> bytes:
        """As an entry of the answer's `errors`."""
        reason, field, detail = self.fault
        return orjson.dumps({"line": self.line, "reason": reason, "field": field, "detail": detail})


class _Chunk(NamedTuple):
    """A chunk under way. `sent`: the line number of each update in the parcel; `received`: lines that are not empty."""

    parcel: Parcel | None
    sent: list[int]
    errors: list[LineError]
    received: int
    last_line: int


class Batch:
    """The account of one batch.

    Args:
        publisher: started.
        supplier_id: checked.
        now_ms: the clock; read once a chunk.
        headers: of every message.
        patience_s: how long to wait, once begun, for a Kafka that went away.
        gives_way: whether to leave most of the time to others, at the moment.
    """

    def __init__(
        self,
        publisher: Publisher,
        supplier_id: str,
        now_ms: Callable[[], int],
        headers: Headers | None,
        patience_s: float,
        gives_way: Callable[[], bool],
    ) -> None:
        self.received = self.accepted = self.rejected = self.in_doubt = 0
        self.last_line = 0
        self.offsets: dict[int, int] = {}
        self.stop: Stop | None = None
        self._publisher = publisher
        self._supplier_id = supplier_id
        self._now_ms = now_ms
        self._headers = headers
        self._patience_s = patience_s
        self._gives_way = gives_way
        self._under_way: deque[_Chunk] = deque()
        self._begun = False
        self._errors: IO[bytes] = tempfile.SpooledTemporaryFile(ERRORS_IN_MEMORY_BYTES_MAX)  # noqa: SIM115 - see close
        self._errors_bytes = 0

    async def take(
        self, first: int, lines: Sequence[_Sent], read: Callable[[_Sent], InventoryUpdate | Fault | None]
    ) -> bool:
        """Validate and send a chunk; False when the batch is stopped and reads no further.

        Args:
            first: number of the first line.
            lines: in their order.
            read: makes an update of one; None skips an empty one, which keeps its number.
        """
        began_s = time.monotonic()
        records, sent, errors = self._validated(first, lines, read)
        worked_s = time.monotonic() - began_s
        parcel = None
        if records:
            try:
                if self._begun:
                    parcel = await self._publisher.send(records, self._headers, self._patience_s)
                else:
                    parcel = await self._publisher.send(records, self._headers)
            except Retriable as error:
                self.stop = self.stop or Stop(503, "try_again", str(error), error.retry_after_s)
                return False
        self._begun = True
        received, last_line = len(sent) + len(errors), first + len(lines) - 1
        self._under_way.append(_Chunk(parcel, sent, errors, received, last_line))
        while self._under_way and (
            len(self._under_way) > CHUNKS_UNDER_WAY_MAX or _is_done(self._under_way[0]) or self.stop
        ):
            await self._settle_oldest()
        if self._gives_way():
            await asyncio.sleep(REST * worked_s)
        return self.stop is None

    async def settle(self) -> None:
        """Wait for all that is under way; bounded by the delivery timeout."""
        while self._under_way:
            await self._settle_oldest()

    @property
    def token(self) -> str | None:
        """What a read gives as `min_offset` to see all that was accepted; None when nothing was."""
        return ",".join(f"{partition}-{offset}" for partition, offset in sorted(self.offsets.items())) or None

    def errors(self) -> tuple[IO[bytes], int]:
        """The JSON list of errors without its brackets, from its beginning, and its size in bytes."""
        self._errors.seek(0)
        return self._errors, self._errors_bytes

    def close(self) -> None:
        """Forget the list."""
        self._errors.close()

    def _validated(
        self, first: int, lines: Sequence[_Sent], read: Callable[[_Sent], InventoryUpdate | Fault | None]
    ) -> tuple[list[Record], list[int], list[LineError]]:
        records: list[Record] = []
        sent: list[int] = []
        errors: list[LineError] = []
        supplier_id, received_at = self._supplier_id, self._now_ms()
        for number, line in enumerate(lines, first):
            try:
                update = read(line)
            except ValidationError as error:
                errors.append(LineError(number, _as_one(faults_of(error))))
                continue
            if update is None:
                continue
            if isinstance(update, Fault):
                errors.append(LineError(number, update))
                continue
            record = record_of(update, supplier_id, received_at)
            if isinstance(record, list):
                errors.append(LineError(number, _as_one(record)))
                continue
            records.append(record)
            sent.append(number)
        return records, sent, errors

    async def _settle_oldest(self) -> None:
        chunk = self._under_way[0]
        if chunk.parcel is not None:
            await self._publisher.settle(chunk.parcel)
        self._under_way.popleft()  # only now: a shutdown may end the wait, and the chunk is waited for again
        self._account(chunk)

    def _account(self, chunk: _Chunk) -> None:
        in_doubt, errors = 0, chunk.errors
        if chunk.parcel is not None:
            for partition, offset in chunk.parcel.offsets.items():
                self.offsets[partition] = max(offset, self.offsets.get(partition, -1))
            for failure in chunk.parcel.failures:
                in_doubt += failure.reason == IN_DOUBT
                fault = Fault(failure.reason, None, f"the update {failure.detail}")
                errors.append(LineError(chunk.sent[failure.place], fault))
        rejected = len(errors) - in_doubt
        accepted = chunk.received - len(errors)
        self.received += chunk.received
        self.accepted += accepted
        self.rejected += rejected
        self.in_doubt += in_doubt
        self.last_line = chunk.last_line
        PUSHED_ACCEPTED.inc(accepted)
        PUSHED_REJECTED.inc(rejected)
        PUSHED_IN_DOUBT.inc(in_doubt)
        self._spool(errors)
        if in_doubt and self.stop is None:
            self.stop = Stop(503, "try_again", "Kafka did not acknowledge in time", 1)

    def _spool(self, errors: list[LineError]) -> None:
        if not errors:
            return
        errors.sort()
        encoded = b",".join(error.encoded() for error in errors)
        if self._errors_bytes:
            encoded = b"," + encoded
        self._errors.write(encoded)
        self._errors_bytes += len(encoded)
        if self._errors_bytes > ERRORS_BYTES_MAX and self.stop is None:
            self.stop = Stop(422, "too_many_errors", "too many lines fail; mend what is listed first")


def _is_done(chunk: _Chunk) -> bool:
    return chunk.parcel is None or chunk.parcel.done.done()


def _as_one(faults: list[Fault]) -> Fault:
    """All faults of a line as one entry: reason and field of the first, the details of all."""
    reason, field, detail = faults[0]
    return Fault(reason, field, detail if len(faults) == 1 else "; ".join(fault.detail for fault in faults))
