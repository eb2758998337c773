"""Finds TCP ports on loopback and tells which are taken; used by the embedded broker, the supervisor and the tests."""

from __future__ import annotations

import errno
import random
import socket

from stockweave.errors import Fatal

_RANGE = range(20_000, 32_000)  # below the range that outgoing connections draw from, so that none grabs it meanwhile


def is_free(port: int, host: str = "127.0.0.1", setting: str = "STOCKWEAVE_API_HOST") -> bool:
    """Whether a server could listen on the port now.

    Raises:
        Fatal: the host, which is that of the setting, is no address of this machine.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise Fatal(f"{host} is no address of this machine ({error.strerror}); mend {setting}") from error
    return True


def free_port(*spoken_for: int) -> int:
    """A port that nobody listens on now, drawn at random so that concurrent callers seldom meet.

    Args:
        spoken_for: ports that are wanted for something else.
    """
    draw = random.SystemRandom()
    while True:
        port = draw.choice(_RANGE)
        if port not in spoken_for and is_free(port):
            return port
