"""Asking a supplier for what changed since the last poll. Used by the kinds that speak HTTP."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from connectors.options import Options


class Overlap(Options):
    """How a time is written, and how far before the last poll it lies: what became visible late is not missed."""

    format: Literal["rfc3339", "unix", "unix_ms"] = "rfc3339"
    overlap_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 300.0

    def written(self, polled_ms: int) -> str:
        """The time to ask for. `polled_ms`: when the last poll began, by the supplier's clock."""
        at_ms = max(0, polled_ms - int(self.overlap_s * 1_000))
        if self.format == "rfc3339":
            said = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds")
            return said.replace("+00:00", "Z")
        return str(at_ms if self.format == "unix_ms" else at_ms // 1_000)
