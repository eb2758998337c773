"""One log for all of a process: ours (structlog) and the libraries' (logging) end as one line per event on stderr.

Coloured text on a terminal, JSON elsewhere. Every command calls `configure_logs` first; nothing else sets up logging.
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

# What these say at INFO is about themselves: each request, each Faust service that starts.
_QUIET = ("aiohttp.access", "faust", "mode", "asyncio", "asyncssh", "watchfiles")


def configure_logs(process: str, *, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Set up logging for this process.

    Args:
        process: `up`, `worker` or `api`; stands in every line as `process`.
        level: the least severe that is written; the libraries' own chatter starts at WARNING.
        stream: where to write; stderr by default.
    """
    sink = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        lambda _logger, _method, event: {"process": process, **event},
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sink)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_rendering(sink)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _rendering(sink: TextIO) -> list[Processor]:
    final: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if sink.isatty():
        return [*final, structlog.dev.ConsoleRenderer()]
    return [*final, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
