"""How many files a process may have open, and each store's share of them; used by `state.store.Resources`.

A store takes a handful of files whatever it holds, besides those with its rows; what is over is for sockets and logs.
"""

from __future__ import annotations

import resource

import structlog

log = structlog.get_logger(__name__)

ROWS_FILES_MAX = 256  # of one store; more of them would not make it faster
ROWS_FILES_MIN = 20  # RocksDB takes no less
STORE_FILES = 8  # of each store besides those with rows: lock, log, manifest, folder
STORES_PER_PARTITION = 2  # of the generation in use, and of the next one
UNLIMITED = 65_536  # where the system names no limit


def raise_limit() -> int:
    """Raise the limit to what the system allows this process; the limit that then holds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, UNLIMITED) if hard == resource.RLIM_INFINITY else hard
    if soft not in (wanted, resource.RLIM_INFINITY):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:  # macOS names no limit and takes less
            log.info("open_files_limit_not_raised", limit=soft, wanted=wanted, why=str(error))
    return limit()


def limit() -> int:
    """The limit that holds now."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def share(limit: int, partitions: int) -> int:
    """How many files with rows a store may keep open, a quarter of the limit being for other things."""
    of_a_store = limit * 3 // 4 // (partitions * STORES_PER_PARTITION) - STORE_FILES
    return max(ROWS_FILES_MIN, min(ROWS_FILES_MAX, of_a_store))
