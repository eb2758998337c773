"""The configuration of the embedded broker: one node that is broker and controller, on loopback alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NODE_ID = 1


def server_properties(log_dir: Path, port: int, controller_port: int, extra: Mapping[str, str]) -> str:
    """The text of `server.properties`.

    The controller is a static voter, which the metadata log does not record: so ports may change between starts, and
    a data folder may be moved.
    """
    properties = {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(log_dir),
        "auto.create.topics.enable": "false",
        # One node: whatever Kafka keeps for itself has one replica, and few partitions to open at a start.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # A worker that died is noticed in seconds, and a group starts without waiting for members to gather.
        "group.initial.rebalance.delay.ms": "0",
        "group.consumer.min.session.timeout.ms": "2000",
        "group.consumer.session.timeout.ms": "2000",
        "group.consumer.min.heartbeat.interval.ms": "500",
        "group.consumer.heartbeat.interval.ms": "500",
        # A transaction that a dead worker left open holds its partitions' takeover up: end it soon after its timeout.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        # After a kill the controller refuses the broker until its former session has run out: keep that short.
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "2000",
        **extra,
    }
    # A backslash starts an escape in this format.
    return "".join(f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in properties.items())
