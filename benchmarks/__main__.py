"""`python -m benchmarks NAME [OPTIONS]`; `make bench` runs the two that tell most."""

from __future__ import annotations

import sys

from benchmarks import feeds, ingest, latency, pictures, recover, replay, reserve, scale, suppliers
from stockweave.errors import StockweaveError

COMMANDS = {
    "connectors": feeds.main,
    "ingest": ingest.main,
    "latency": latency.main,
    "pictures": pictures.main,
    "recover": recover.main,
    "replay": replay.main,
    "reserve": reserve.main,
    "scale": scale.main,
    "suppliers": suppliers.main,
}


def main() -> int:
    """Run one, or list them."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.stderr.write(f"usage: python -m benchmarks {{{'|'.join(COMMANDS)}}} [--help]\n")
        return 2
    try:
        return COMMANDS[sys.argv[1]](sys.argv[2:])
    except StockweaveError as error:
        sys.stderr.write(f"benchmarks: {error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
