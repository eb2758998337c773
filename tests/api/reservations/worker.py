"""Decides what comes into inventory.commands, by the rules, and writes what a worker would, on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, cast

from confluent_kafka import Consumer, Message, TopicPartition

from inventory.policies import Policies
from inventory.reservations import coordinate
from inventory.reservations.decide import Case, Command, Decision, decide, expire
from inventory.reservations.facts import Origin, fact_of, hold_after, keys_of, records_of, row_after
from inventory.reservations.shipments import Shipment, close
from schemas.codec import Codec
from schemas.registry import FileRegistry
from schemas.reservations import ANSWER, NO_SKU, NOTED, UNCHANGED, Hold
from schemas.rows import PackedRow, StockRow, decode_packed_row, decode_row, encode, encode_row
from schemas.topics import COMMANDS
from stockweave.clients import CLIENT_LOGGER
from tests.api.stock import Stock

POLL_S = 0.02


class Worker:
    """`with` runs it. All writes of a deployment go through it, for there is one producer.

    Args:
        stock: of the deployment.
    """

    def __init__(self, stock: Stock) -> None:
        self.ahead_ms = 0  # of the decision clock
        self.rows: dict[str, PackedRow] = {}
        self.holds: dict[tuple[str, str], Hold] = {}
        self.commands: list[dict[str, Any]] = []
        self._stock = stock
        self._codec = Codec("ReservationCommand", FileRegistry())
        self._busy = threading.RLock()  # whoever writes, or reads commands
        self._stopping = threading.Event()
        self._facts = 0
        self._between: list[Command] = []  # what lines and coordinators have to tell each other
        self._thread = threading.Thread(target=self._run, name="test-worker")

    def __enter__(self) -> Self:
        self._consumer = Consumer(
            {
                "bootstrap.servers": self._stock.bootstrap_servers,
                "group.id": self._stock.settings.group,
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 20,
            },
            logger=CLIENT_LOGGER,
        )
        topic = self._stock.topics[COMMANDS.name]
        self._consumer.assign([TopicPartition(topic.name, number, 0) for number in range(topic.partitions)])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()

    def stock(self, *rows: StockRow) -> str:
        """A committed transaction of rows; its token."""
        with self._busy:
            self.rows |= {row.sku: decode_packed_row(encode_row(row)) for row in rows}
            return self._stock.write(*rows)

    def ship(self, shipment: Shipment) -> None:
        """A supplier tells of units that left."""
        with self._busy:
            holds = [h for (sku, _), h in self.holds.items() if (sku, h.order_id) == (shipment.sku, shipment.order_id)]
            records: dict[bytes, bytes | None] = {}
            for decision in close(shipment, holds, self._now_ms()):
                records |= self._carried_out(decision, shipment.command_id, None)
            number = self._stock.partition(shipment.sku)
            self._stock.decide(number, records, self._stock.next_command[number])

    @contextmanager
    def away(self) -> Iterator[None]:
        """Within the block nobody decides."""
        with self._busy:
            yield

    @contextmanager
    def only(self, partition: int) -> Iterator[None]:
        """Within the block only commands of one partition are decided."""
        topic = self._stock.topics[COMMANDS.name]
        others = [TopicPartition(topic.name, n) for n in range(topic.partitions) if n != partition]
        with self._busy:
            self._consumer.pause(others)
        try:
            yield
        finally:
            with self._busy:
                self._consumer.resume(others)

    def forget(self, sku: str, own_id: str) -> None:
        """What a hold that was over long enough ago comes to."""
        with self._busy:
            hold = self.holds.pop((sku, own_id))
            number = self._stock.partition(sku)
            self._stock.decide(number, dict.fromkeys(keys_of(hold)), self._stock.next_command[number])

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead_ms

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._busy:
                of_partition: dict[int, list[Message]] = {}
                for message in self._consumer.consume(1_000, POLL_S):
                    assert message.error() is None, message.error()
                    of_partition.setdefault(cast("int", message.partition()), []).append(message)
                for number, messages in of_partition.items():
                    records: dict[bytes, bytes | None] = {}
                    for message in messages:
                        records |= self._decided(message)
                    self._stock.decide(number, records, cast("int", messages[-1].offset()) + 1)
                while self._between:
                    self._pass_on(self._between.pop(0))
            time.sleep(0.001)  # a lock is not fair

    def _decided(self, message: Message) -> dict[bytes, bytes | None]:
        """The records of what a command comes to."""
        [command] = self._codec.decode([cast("bytes", message.value())])
        assert isinstance(command, dict), command
        asked = cast("Command", command)
        assert message.key() == coordinate.home(asked).encode()
        self.commands.append(command)
        if asked["sku"] == NO_SKU:
            hold = self.holds.get((NO_SKU, asked["reservation_id"]))
            return self._coordinated(coordinate.coordinate(asked, hold, self._now_ms(), 0), asked["command_id"])
        return self._of_sku(asked, message.offset())

    def _pass_on(self, command: Command) -> None:
        """A transaction of what one message between a line and its coordinator comes to."""
        if command["action"] == ANSWER:
            hold = self.holds[NO_SKU, command["reservation_id"]]
            records = self._coordinated(coordinate.hear(hold, command, self._now_ms()), command["command_id"])
        else:
            records = self._of_sku(command, None)
            answer = coordinate.answer_to(command, self.holds.get((command["sku"], command["reservation_id"])))
            self._between.append(answer)
        self._stock.decide(self._stock.partition(coordinate.home(command)), records)

    def _coordinated(self, done: coordinate.Coordinated | None, command_id: str) -> dict[bytes, bytes | None]:
        if done is None:
            return {}
        self._between += done.sent
        return self._carried_out(done.decision, command_id, None)

    def _of_sku(self, command: Command, offset: int | None) -> dict[bytes, bytes | None]:
        """The records of what a command on one SKU comes to."""
        sku, name = command["sku"], (command["sku"], command["reservation_id"])
        now_ms = self._now_ms()
        records: dict[bytes, bytes | None] = {}
        for (of_sku, _), hold in list(self.holds.items()):
            if of_sku == sku and (ended := expire(hold, now_ms)) is not None:
                records |= self._carried_out(ended, None, None)
        row = self.rows.get(sku)
        case = Case(None if row is None else decode_row(encode(row)), self.holds.get(name), Policies(), now_ms)
        decision = decide(command, case)
        if decision is not None:
            records |= self._carried_out(decision, command["command_id"], offset)
        return records

    def _carried_out(self, decision: Decision, command_id: str | None, offset: int | None) -> dict[bytes, bytes | None]:
        """The records of a fact."""
        hold = decision.hold
        name = hold.sku, hold.reservation_id
        before = self.holds.get(name)
        if hold.lines and decision.fact != NOTED:
            command_id = decision.command_id
        at_ms = hold.unchanged[-1].at if decision.fact == UNCHANGED else hold.steps[-1].at
        fact = fact_of(decision, Origin(self._facts, command_id, offset, at_ms))
        self._facts += 1
        after = self.holds[name] = hold_after(before, fact)
        records = records_of(before, after)
        row = self.rows.get(hold.sku)
        if row is not None and row_after(row, before, after):
            records[hold.sku.encode()] = encode(row)
        return records
