"""Run by path in front of a child's command: `python -I -S die_with_parent.py PARENT_PID COMMAND…`.

Asks Linux to kill this process when its parent dies, then becomes COMMAND, which inherits that. In a program of its own
because a parent with threads can't safely run Python code between fork and exec. It imports nothing of ours. A child
that is a Python program of ours calls `die_with` itself.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Have this process killed when the process `parent` dies; exits if it is dead already. Nothing but on Linux."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        sys.exit(1)


if __name__ == "__main__":
    command = sys.argv[2:]
    die_with(int(sys.argv[1]))
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
