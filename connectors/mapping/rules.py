"""What a mapping may say: where each field of an update is found, and how what is found there is read.

A rule says where: `path` (a JSONPath, an XPath or a column's name, as the feed's format has it) or `constant`; and
how, each kind of rule in its own words. A bare text stands for `{path: ...}`. Checked when the configuration is read,
so that what is wrong is named with its place, and nothing of it waits for the first row. Used by `mapper`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connectors.options import Options
from inventory.stock import COUNT

FACTOR_MAX = 10**6  # units in a pack
RECEIPTS_MAX = 20  # announced ones, each with columns of its own
STALE_AFTER_S_MAX = 10 * 366 * 86_400

Words = dict[str, str | int]
"""A supplier's words, as they are written there, and what they mean."""


class Rule(Options):
    """Where a field is found.

    `values`: what the supplier's words mean; what is none of them is read as it is, unless `otherwise` is `reject`.
    `default`: for a row where what is found is empty, null or only spaces. `default_when: absent`: as well for one that
    has nothing there at all, not even that; else such a row is a dead letter, for the field may be gone or renamed.
    """

    path: Annotated[str, Field(min_length=1)] | None = None
    constant: str | int | None = None
    default: str | int | None = None
    default_when: Literal["empty", "absent"] = "empty"
    values: Words = Field(default={})
    otherwise: Literal["read", "reject"] = "read"

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.path is None) == (self.constant is None):
            raise PydanticCustomError("where", "needs either path or constant, and not both")
        if self.path is None and (self.default is not None or self.values):
            raise PydanticCustomError("where", "is a constant, which has neither default nor values; leave them out")
        if self.default is None and self.default_when != "empty":
            raise PydanticCustomError("default_when", "has default_when, and no default; say what holds then")
        if self.otherwise == "reject" and not self.values:
            raise PydanticCustomError("otherwise", "rejects what is not in values, and has none; name what is allowed")
        return self


class TextRule(Rule):
    """An id or a name, without the spaces around it. `upper`: case makes no difference at the supplier."""

    upper: bool = False


class QuantityRule(Rule):
    """Whole units.

    `pack`: units in one of what is counted. `thousands`, `decimal`: the marks within a number. `fraction`: what becomes
    of a part of a unit. `below_zero`: what becomes of a count that is.
    """

    pack: Annotated[int, Field(ge=1, le=FACTOR_MAX)] = 1
    thousands: Literal[",", ".", "'", " ", ""] = ""
    decimal: Literal[".", ","] = "."
    fraction: Literal["reject", "down"] = "reject"
    below_zero: Literal["reject", "zero"] = "reject"

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        if self.thousands == self.decimal:
            raise PydanticCustomError("same_marks", "has one mark for thousands and decimals; name two")
        return self


class TimeRule(Rule):
    """A moment.

    `format`: `rfc3339`, `unix` (seconds), `unix_ms`, or a pattern as Python's strptime has it. `zone`: of times that
    name none, by its name in the IANA database.
    """

    format: Annotated[str, Field(min_length=1)] = "rfc3339"
    zone: str = "UTC"

    @field_validator("format")
    @classmethod
    def _is_format(cls, given: str) -> str:
        if given not in ("rfc3339", "unix", "unix_ms") and "%" not in given:
            detail = "is neither rfc3339, unix, unix_ms nor a pattern such as %d.%m.%Y %H:%M; name one of them"
            raise PydanticCustomError("format", detail)
        return given

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, given: str) -> str:
        try:
            ZoneInfo(given)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise PydanticCustomError("zone", "is no time zone; send a name such as Europe/Berlin") from None
        return given


def _where(given: Any) -> Any:  # noqa: ANN401 - as the file has it
    """A bare text as a path."""
    return {"path": given} if isinstance(given, str) else given


def _constantly(value: str) -> Any:  # noqa: ANN401 - a default of any rule
    return Field(default_factory=lambda: TextRule(constant=value))


Text = Annotated[TextRule, BeforeValidator(_where)]
Quantity = Annotated[QuantityRule, BeforeValidator(_where)]
Time = Annotated[TimeRule, BeforeValidator(_where)]


class Receipt(Options):
    """Units announced for later."""

    expected_at: Time
    quantity: Quantity


class SkuMapRule(Options):
    """The supplier's SKUs are looked up in the map that `stockweave skus` writes.

    `unknown`: what becomes of a row whose SKU is not there: `pass` (it is ours as it is), `park` (a dead letter, to be
    retried once it is there), `reject` (a dead letter).
    """

    unknown: Literal["pass", "park", "reject"]


class Mapping(Options):
    """How a feed's rows become updates. `version`: of the mapping, told with each update; raise it with each change.

    Without `observed_at` an update was true when the request that read it began, or as old as its file. Without
    `update_id` one is made of what the row says and where it stood, so that reading it again makes the same.
    """

    version: Annotated[int, Field(ge=1)]
    sku: Text
    sku_map: SkuMapRule | None = None
    quantity: Quantity | None = None
    kind: Text = _constantly(COUNT)
    location: Text = _constantly("default")
    basis: Text = _constantly("ON_HAND")
    observed_at: Time | None = None
    update_id: Text | None = None
    order_ref: Text | None = None
    incoming: list[Receipt] = Field(default=[], max_length=RECEIPTS_MAX)
    stale_after_s: Annotated[int, Field(ge=1, le=STALE_AFTER_S_MAX)] | None = None

    def rules(self) -> Iterator[tuple[str, Rule]]:
        """All rules, each with the name of its field."""
        for name in ("sku", "quantity", "kind", "location", "basis", "observed_at", "update_id", "order_ref"):
            rule = getattr(self, name)
            if rule is not None:
                yield name, rule
        for i, receipt in enumerate(self.incoming):
            yield f"incoming.{i}.expected_at", receipt.expected_at
            yield f"incoming.{i}.quantity", receipt.quantity

    @property
    def paths(self) -> list[str]:
        """What is to be found in each row, each once."""
        return list(dict.fromkeys(rule.path for _, rule in self.rules() if rule.path is not None))
