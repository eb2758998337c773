"""What a query costs, where a supplier counts cost and not requests (`extensions.cost`, as Shopify has it).

Used by `source`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

UNTOLD_S = 1.0  # a supplier that throttles and does not say for how long


class Cost(NamedTuple):
    """`requested`: of the query; `available`: of the supplier's points now; `restored`: of them a second."""

    requested: float = 0.0
    available: float = 0.0
    restored: float = 0.0

    @staticmethod
    def of(content: dict[str, Any]) -> Cost:
        """As an answer tells it; nothing where it does not."""
        try:
            cost = content["extensions"]["cost"]
            status = cost["throttleStatus"]
            told = (cost["requestedQueryCost"], status["currentlyAvailable"], status["restoreRate"])
            return Cost(*map(float, told))
        except (KeyError, TypeError, ValueError):
            return Cost()

    @staticmethod
    def throttled(errors: object) -> bool:
        """Whether it is but the cost that an answer's errors tell of."""
        return isinstance(errors, list) and all(_code(error) == "THROTTLED" for error in errors)

    @property
    def wait_s(self) -> float:
        """Until the same query can be paid for, after it could not."""
        return self.next_wait_s or UNTOLD_S

    @property
    def next_wait_s(self) -> float:
        """Until another one like it can be paid for."""
        return max(0.0, self.requested - self.available) / self.restored if self.restored > 0 else 0.0


def _code(error: object) -> object:
    extensions = error.get("extensions") if isinstance(error, dict) else None
    return extensions.get("code") if isinstance(extensions, dict) else None
