"""Times on the command line: RFC 3339 or milliseconds since the epoch, always UTC within; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from stockweave.errors import Fatal

_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_WHOLE = re.compile(r"\d{1,15}")  # to the year 33658
SECONDS_MAX = 100_000_000_000  # as milliseconds this is March 1973, as seconds the year 5138


def parse_as_of(text: str, now_ms: int) -> int:
    """Milliseconds since the epoch of what `--as-of` says; fractions of one are cut off.

    Args:
        text: as given.
        now_ms: the present.

    Raises:
        Fatal: it is no time, or none that has been.
    """
    asked = text.strip()
    if _WHOLE.fullmatch(asked):
        at_ms = int(asked)
        if at_ms < SECONDS_MAX:
            raise Fatal(
                f"--as-of is {text!r}, which would be in the year 1973 or before: give milliseconds, not seconds"
            )
    elif _RFC3339.fullmatch(asked):
        try:
            at_ms = (datetime.fromisoformat(asked.upper()) - _EPOCH) // _MS
        except (ValueError, OverflowError) as error:
            raise Fatal(f"--as-of is {text!r}: {error}; give a day and an hour that there are") from error
    else:
        raise Fatal(
            f"--as-of is {text!r}: give RFC 3339 with its zone, such as 2026-01-31T09:30:00Z, or milliseconds since "
            "1970"
        )
    if at_ms > now_ms:
        raise Fatal(f"--as-of is {text!r}, which is still to come: leave it out for the present")
    return at_ms
