"""A supplier's Kafka that wants to know who asks: a real broker on loopback, with SASL over TLS, and TLS on both ends.

Who starts it brings the broker along (`NewBroker`). It trusts one authority; an open listener is there for the supplier
himself. Called by `simulate`, and by tests.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from confluent_kafka import Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from connectors.testing.certificates import HOST, Authority
from stockweave.clients import CLIENT_LOGGER

ANSWER_S = 30.0
MECHANISMS = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}
ITERATIONS = 4_096


class Broker(Protocol):
    """A Kafka that is not started."""

    def start(self) -> Any:  # noqa: ANN401 - of no use here
        """Returns once it answers."""

    def stop(self) -> None:
        """Returns once it has ended."""


NewBroker = Callable[[Path, int, Mapping[str, str]], Broker]
"""Makes one: where its data is, the port of its open listener, and its properties on top of its maker's."""


class Ports(NamedTuple):
    """Of the listeners: `open` for the supplier himself, `sasl`, `mutual` for who shows a certificate."""

    open: int
    controller: int
    sasl: int
    mutual: int


class KafkaServer:
    """`with` starts and stops it.

    `authority`: who has to sign for whom it trusts; `ca_file`: for who wants to trust it.

    Args:
        folder: its data and certificates.
        new_broker: see there.
        plain: passwords of the mechanism PLAIN by user; those of the others come with `permit`.
    """

    def __init__(self, folder: Path, new_broker: NewBroker, plain: Mapping[str, str] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.authority = Authority(folder, "ca")
        self.ca_file = self.authority.file
        self._ports = _drawn()
        certificate, key = self.authority.issue("broker")
        both = folder / "broker.pem"
        both.touch(mode=0o600)
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        self._broker = new_broker(
            folder / "kafka", self._ports.open, _properties(self._ports, both, self.ca_file, plain or {})
        )

    @property
    def bootstrap_servers(self) -> str:
        """For the supplier himself: nobody asks who he is."""
        return f"{HOST}:{self._ports.open}"

    @property
    def sasl(self) -> str:
        """Where a user and a password are wanted, over TLS."""
        return f"{HOST}:{self._ports.sasl}"

    @property
    def mutual(self) -> str:
        """Where a certificate of the authority is wanted; who shows it is called `CN=` and its name."""
        return f"{HOST}:{self._ports.mutual}"

    def __enter__(self) -> Self:
        self._broker.start()
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap_servers}, logger=CLIENT_LOGGER)
        return self

    def __exit__(self, *_: tuple[type[BaseException] | None, BaseException | None, TracebackType | None]) -> None:
        self._broker.stop()

    def restart(self) -> None:
        """Cuts all connections."""
        self._broker.stop()
        self._broker.start()

    def create(self, topic: str, partitions: int = 1) -> None:
        """A topic that nobody else may read yet."""
        self.admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(ANSWER_S)

    def permit(self, user: str, mechanism: str, password: str) -> None:
        """Know a user by this password from now on, and by no former one."""
        info = ScramCredentialInfo(MECHANISMS[mechanism], ITERATIONS)
        asked = UserScramCredentialUpsertion(user, info, password.encode())
        self.admin.alter_user_scram_credentials([asked])[user].result(ANSWER_S)

    def let_read(self, user: str, topic: str) -> None:
        """Let a user read a topic; he may do nothing else."""
        entry = AclBinding(
            ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, f"User:{user}", "*", AclOperation.READ,
            AclPermissionType.ALLOW,
        )  # fmt: skip
        self.admin.create_acls([entry])[entry].result(ANSWER_S)

    def producer(self) -> Producer:
        """The supplier's own."""
        return Producer({"bootstrap.servers": self.bootstrap_servers, "linger.ms": 5}, logger=CLIENT_LOGGER)


def _drawn() -> Ports:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in Ports._fields]
        for each in sockets:
            each.bind((HOST, 0))
        return Ports(*(each.getsockname()[1] for each in sockets))


def _properties(ports: Ports, certificate: Path, trusted: Path, plain: Mapping[str, str]) -> dict[str, str]:
    users = " ".join(f'user_{user}="{password}"' for user, password in plain.items())
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    own = f"PLAINTEXT://{HOST}:{ports.open}"
    others = f"SASL_SSL://{HOST}:{ports.sasl},SSL://{HOST}:{ports.mutual}"
    return {
        "listeners": f"{own},{others},CONTROLLER://{HOST}:{ports.controller}",
        "advertised.listeners": f"{own},{others}",
        "controller.quorum.voters": f"1@{HOST}:{ports.controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificate),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(trusted),
        "listener.name.ssl.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",  # of the open listener
        "log.cleaner.dedupe.buffer.size": str(16 << 20),
        "num.network.threads": "2",
        "num.io.threads": "2",
    }
