"""One more API process beside that of a `stockweave up`, with a supervisor of its own, so that it may be killed too."""

from __future__ import annotations

import argparse
import http.client
import os
import sys
from http import HTTPStatus
from pathlib import Path

from rich.console import Console

from stockweave.ports import free_port
from stockweave.supervisor import ChildSpec, Stage, Supervisor
from tests.system.stack import Supervised

NAME = "api-2"
PROBE_S = 0.5


class SecondApi(Supervised):
    """On a free port. `url`: where it answers.

    Args:
        data_dir: of the deployment; its own folder is made in there.
        bootstrap_servers: of the deployment's Kafka.
    """

    def __init__(self, data_dir: Path, bootstrap_servers: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = {
            "STOCKWEAVE_BOOTSTRAP_SERVERS": bootstrap_servers,
            "STOCKWEAVE_DATA_DIR": str(data_dir / NAME),
            "STOCKWEAVE_API_PORT": str(port),
        }
        super().__init__([sys.executable, "-m", __name__, str(data_dir), str(port)], NAME, environment)


def is_ready(port: int) -> bool:
    """Whether it answers, and has caught up."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PROBE_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> None:
    """Keep the API running until a signal ends it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    child = ChildSpec(
        name=NAME,
        command=lambda: [sys.executable, "-m", "stockweave", "api"],
        log=arguments.data_dir / "logs" / f"{NAME}.log",
        env=os.environ,
        is_ready=lambda: is_ready(arguments.port),
    )
    Supervisor([Stage([child])], Console()).run()


if __name__ == "__main__":
    main()
