"""The broker behind the proxy: run by its supervisor as in `stockweave up`, with a listener that advertises the proxy.

Workers and API reach it there alone; who only watches uses the other listener, so that no fault keeps them from seeing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from stockweave.broker.kafka import EmbeddedKafka
from stockweave.ports import free_port
from stockweave.supervisor import ChildSpec, Stage, Supervisor
from tests.system.stack import Supervised

NAME = "broker"


class Broker(Supervised):
    """The broker on free ports. `port`: for watchers; `behind_port`: the proxy's upstream; `proxy_port`: advertised."""

    def __init__(self, data_dir: Path) -> None:
        self.port, self.behind_port, self.proxy_port = free_port(), free_port(), free_port()
        self.bootstrap_servers = f"127.0.0.1:{self.port}"
        ports = (self.port, self.behind_port, self.proxy_port, free_port())
        super().__init__([sys.executable, "-m", __name__, str(data_dir), *map(str, ports)], NAME, {})


def listeners(port: int, behind_port: int, proxy_port: int, controller_port: int) -> dict[str, str]:
    """Broker settings: a second listener, whose advertised address is the proxy's."""
    return {
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind_port},"
        f"CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }


def main() -> None:
    """Keep the broker running until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("ports", type=int, nargs=4)
    arguments = parser.parse_args()
    console = Console()
    properties = listeners(*arguments.ports)
    kafka = EmbeddedKafka(arguments.data_dir, arguments.ports[0], properties=properties, console=console)
    kafka.fetch()
    child = ChildSpec(
        name=NAME,
        command=kafka.prepare,
        log=kafka.log_file,
        output=kafka.output_file,
        is_ready=lambda: kafka.answers(0.5),
        explain=kafka.died,
    )
    gate = Stage([child], lambda: kafka.answers(0.5), 180.0, "Kafka", kafka.refuse_strays)
    Supervisor([gate], console).run()


if __name__ == "__main__":
    main()
