"""`python -m benchmarks NAME [OPTIONS]`; `make bench` runs them all at their defaults."""

from __future__ import annotations

import sys

from benchmarks import latency

COMMANDS = {"latency": latency.main}


def main() -> int:
    """Run one, or list them."""
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.stderr.write(f"usage: python -m benchmarks {{{'|'.join(COMMANDS)}}} [--help]\n")
        return 2
    return COMMANDS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    raise SystemExit(main())
