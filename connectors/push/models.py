"""What a supplier sends: the fields of an update with their bounds, in camelCase; the API's description comes from it.

Each field is checked here by itself; what fields say together is checked in `validation`. Every message reads on from
the field's name and names the remedy.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from inventory.stock import INCOMING_MAX, QUANTITY_MAX
from schemas.keys import ID_CHARACTERS_MAX, ID_PATTERN, id_problem

OBSERVED_AT_MIN_MS = 946_684_800_000  # 2000-01-01; what is before it was sent in seconds
OBSERVED_AT_MAX_MS = 253_402_300_799_999  # the end of the year 9999, where RFC 3339 ends too
STALE_AFTER_MS_MAX = 10 * 366 * 86_400_000

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def to_ms(value: object) -> int:
    """Milliseconds since the epoch of an RFC 3339 string or a number of milliseconds."""
    if type(value) is int:
        at = value
    elif isinstance(value, str):
        at = _rfc3339_ms(value)
    else:
        raise PydanticCustomError(
            "invalid_timestamp", "is neither RFC 3339 nor a whole number of milliseconds since 1970; send one of them"
        )
    if at < OBSERVED_AT_MIN_MS:
        raise PydanticCustomError(
            "invalid_timestamp", "is before the year 2000; send milliseconds since 1970, not seconds"
        )
    if at > OBSERVED_AT_MAX_MS:
        raise PydanticCustomError(
            "invalid_timestamp", "is after the year 9999; send milliseconds since 1970, not microseconds"
        )
    return at


def _rfc3339_ms(value: str) -> int:
    if not _RFC3339.fullmatch(value):
        raise PydanticCustomError(
            "invalid_timestamp", "is not RFC 3339; send 2026-11-21T09:30:00Z, with Z or an offset such as +01:00"
        )
    try:
        return (datetime.fromisoformat(value.upper()) - _EPOCH) // _MS
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "invalid_timestamp", "names a day or an hour that does not exist; send 2026-11-21T09:30:00Z"
        ) from None


def _id(value: str) -> str:
    if problem := id_problem(value):
        raise PydanticCustomError("invalid_id", _id_message(problem))
    return value


def _sku(value: str) -> str:
    return _id(value if value.isascii() else unicodedata.normalize("NFC", value))


def _id_message(problem: str) -> Any:  # noqa: ANN401 - PydanticCustomError wants a literal
    remedy = "" if ";" in problem else f"; send 1 to {ID_CHARACTERS_MAX} characters, without control characters"
    return problem + remedy


ID_SCHEMA: dict[str, Any] = {"minLength": 1, "maxLength": ID_CHARACTERS_MAX, "pattern": ID_PATTERN}
_TIME_SCHEMA = WithJsonSchema(
    {
        "oneOf": [
            {"type": "string", "format": "date-time", "pattern": "^[2-9][0-9]{3}-"},
            {"type": "integer", "minimum": OBSERVED_AT_MIN_MS, "maximum": OBSERVED_AT_MAX_MS},
        ]
    }
)

Id = Annotated[str, Field(strict=True, json_schema_extra=ID_SCHEMA), AfterValidator(_id)]
Sku = Annotated[str, Field(strict=True, json_schema_extra=ID_SCHEMA), AfterValidator(_sku)]
Time = Annotated[int, PlainValidator(to_ms), _TIME_SCHEMA]
_CAMEL_CASE = ConfigDict(extra="forbid", alias_generator=to_camel)


def _of_kind(kind: str, then: dict[str, Any], otherwise: dict[str, Any] | None = None) -> dict[str, Any]:
    condition: dict[str, Any] = {"properties": {"kind": {"const": kind}}}
    if kind != "COUNT":
        condition["required"] = ["kind"]  # COUNT is what it is without one
    return {"if": condition, "then": then} | ({} if otherwise is None else {"else": otherwise})


_NO_COUNT: dict[str, Any] = {"incoming": {"maxItems": 0}, "staleAfterMs": {"type": "null"}}
_TOGETHER: dict[str, Any] = {
    "allOf": [
        _of_kind("COUNT", {"properties": {"quantity": {"type": "integer", "minimum": 0}}, "required": ["quantity"]}),
        _of_kind(
            "DELTA",
            {
                "properties": {"quantity": {"type": "integer", "not": {"const": 0}}, **_NO_COUNT},
                "required": ["quantity"],
            },
            {"properties": {"orderRef": {"type": "null"}}},
        ),
        _of_kind("WITHDRAWN", {"properties": {"quantity": {"enum": [0, None]}, **_NO_COUNT}}),
    ]
}
"""What fields say together, for the description; `validation.record_of` is what checks it."""


class Incoming(BaseModel):
    """Units announced for later."""

    model_config = _CAMEL_CASE

    expected_at: Time = Field(description="When they are due: RFC 3339 with an offset, or milliseconds since 1970.")
    quantity: int = Field(strict=True, ge=1, le=QUANTITY_MAX, description="Whole units.")


class InventoryUpdate(BaseModel):
    """What a supplier says of one SKU at one location."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, json_schema_extra=_TOGETHER)

    sku: Sku = Field(description="The shop's id of the article; brought to Unicode's composed form (NFC).")
    quantity: Annotated[int, Field(strict=True, ge=-QUANTITY_MAX, le=QUANTITY_MAX)] | None = Field(
        None,
        description="Whole units: zero or more for COUNT, any but zero for DELTA; left out, or zero, for WITHDRAWN.",
    )
    timestamp: Time = Field(
        description="When it was true at the supplier: RFC 3339 with an offset, or milliseconds since 1970; "
        "at most 5 minutes ahead of the service's clock."
    )
    update_id: Id = Field(
        description="The supplier's id of this statement. The same id with the same content again has no effect, "
        "so whatever got no clear answer can be sent again."
    )
    kind: Literal["COUNT", "DELTA", "WITHDRAWN"] = Field(
        "COUNT",
        description="COUNT: the stock is `quantity`. DELTA: it changed by `quantity`. WITHDRAWN: no longer offered.",
    )
    basis: Literal["ON_HAND", "AVAILABLE"] = Field(
        "ON_HAND", description="What a count already nets out: nothing, or the supplier's known orders."
    )
    location: Id = Field("default", description="Where the stock lies, for a supplier with several places.")
    order_ref: Id | None = Field(
        None, description="DELTA only: the order that it is the shipment of; what that has reserved there is closed."
    )
    # A tuple, as pydantic copies a list's default for every update.
    incoming: tuple[Incoming, ...] = Field((), max_length=INCOMING_MAX, description="COUNT only: announced receipts.")
    stale_after_ms: Annotated[int, Field(strict=True, ge=1, le=STALE_AFTER_MS_MAX)] | None = Field(
        None, description="COUNT only: how long the source may be relied on after its latest statement."
    )
