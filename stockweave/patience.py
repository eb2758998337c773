"""The wait of a process that starts for what it needs: Kafka and the registry may come up after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from stockweave.errors import Retriable

log = structlog.get_logger(__name__)

WAIT_S = 60.0
RETRY_S = 1.0

T = TypeVar("T")


def patiently(reach: Callable[[], T], waits: str) -> T:
    """What `reach` gives, once what it needs is up.

    Args:
        reach: asked again whenever it raises Retriable.
        waits: the event that is logged each time.

    Raises:
        Retriable: it did not come up in a minute.
    """
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            return reach()
        except Retriable as why:
            if time.monotonic() > deadline_s:
                raise
            log.warning(waits, why=str(why))
        time.sleep(RETRY_S)
