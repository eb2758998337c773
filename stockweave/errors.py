"""The three ways to fail, classed by what the caller does next; nothing else is raised on purpose or caught broadly.

`Retriable`: the same call may succeed later. `Rejected`: this input never will; it is answered or dead-lettered with
its reason. `Fatal`: the process stops and says why; nothing is acknowledged. Every message names the remedy.
"""

from __future__ import annotations


class StockweaveError(Exception):
    """Base of the three; never raised itself."""


class Retriable(StockweaveError):
    """A dependency is away or busy. Nothing is lost by trying again.

    Args:
        message: what happened and what to do.
        retry_after_s: how long to wait, in seconds (becomes the `Retry-After` header at the HTTP edge).
    """

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(StockweaveError):
    """An input that cannot be used, now or later.

    Args:
        reason: a stable code in snake_case, the key of metrics and dead letters.
        message: what is wrong and how to mend it.
        field: the field at fault, in the sender's spelling, or None when the whole input is.
    """

    def __init__(self, reason: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field


class Fatal(StockweaveError):
    """Going on would risk the data, or cannot work; the process ends with this message as its last line."""
