"""What storefronts send: the JSON types, which are also their documentation, and what is read of them.

Each field is checked here and nowhere else, and what is wrong names the field and the remedy; the first fault is told.
Called by the routes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct

from api.params import DIGITS_MAX, identifier
from api.reservations.ids import KEY_PATTERN, digest
from inventory.policies import DEFAULT_CHANNEL
from schemas.keys import ID_PATTERN
from schemas.reservations import COMMIT, EXTEND, NO_SKU, TRANSFER
from stockweave.errors import Rejected

EXPIRES_IN_S_DEFAULT, EXPIRES_IN_S_MAX = 900, 14_400
QUANTITY_MAX = 10**9  # of one call
PREFERRED_MAX = 50
BATCH_MAX = 1_000
LINES_MAX = 100
ANOTHER_GENERATION = -1  # a version that no row has: the row that the caller saw is not served any more
MALFORMED = "malformed_json"
MISMATCH = "line_mismatch"  # lines that are well-formed each, and do not fit one another, or the reservation
FIELD_CHARACTERS_MAX = 200  # of a name that is told; a caller may have made it up

_ID_SCHEMA: dict[str, Any] = {"minLength": 1, "pattern": ID_PATTERN}
_VERSION = re.compile(rf"([!-~]+)-([0-9]{{1,{DIGITS_MAX}}})")

Id = Annotated[str, Meta(extra_json_schema=_ID_SCHEMA)]
Quantity = Annotated[int, Meta(ge=1, le=QUANTITY_MAX, description="Whole units.")]
ExpiresIn = Annotated[
    int, Meta(ge=1, le=EXPIRES_IN_S_MAX, description="Seconds from the decision until it lapses unless committed.")
]
Channel = Annotated[str, Meta(extra_json_schema=_ID_SCHEMA, description="By whose policies, and against whose share.")]
Order = Annotated[str, Meta(extra_json_schema=_ID_SCHEMA, description="The shop's order.")]
Location = Annotated[str, Meta(extra_json_schema=_ID_SCHEMA, description="Where all of it must come from.")] | None
Supplier = Annotated[str, Meta(extra_json_schema=_ID_SCHEMA, description="Who must give all of it.")] | None
Preferred = Annotated[
    list[Id], Meta(max_length=PREFERRED_MAX, description="Locations that it should come from, the nearest first.")
]
Partial = Annotated[bool, Meta(description="Whether less than quantity may be reserved, if there is not enough.")]
Version = (
    Annotated[str, Meta(extra_json_schema={"pattern": f"^{_VERSION.pattern}$"}, description="As a read tells it.")]
    | Annotated[int, Meta(ge=0, lt=10**DIGITS_MAX, description="Its number alone.")]
    | None
)
Key = Annotated[str, Meta(extra_json_schema={"pattern": KEY_PATTERN}, description="As the header of a single call.")]

_STRICT = {"forbid_unknown_fields": True, "kw_only": True}


class AskedLine(NamedTuple):
    """One SKU of it; every field is checked."""

    sku: str
    quantity: int
    location: str | None
    supplier: str | None


class Asked(NamedTuple):
    """What a call asks to be reserved; every field is checked. `lines`: one for each SKU."""

    lines: list[AskedLine]
    order_id: str
    channel: str
    expires_in_s: int
    allow_partial: bool
    preferred: list[str]
    if_version: str | int | None = None

    @property
    def fingerprint(self) -> str:
        """Of all of it: calls with the same key and another one are in conflict."""
        return digest(msgspec.json.encode(self).decode())

    def version(self, generation: str) -> int | None:
        """The version that the row must have; `generation`: of the rows that are served."""
        if not isinstance(self.if_version, str):
            return self.if_version
        of, _, number = self.if_version.rpartition("-")
        return int(number) if of == generation else ANOTHER_GENERATION


class ReserveRequest(Struct, rename={"order_id": "orderId"}, **_STRICT):
    """Units of one SKU, for an order."""

    sku: Id
    quantity: Quantity
    order_id: Order
    channel: Channel = DEFAULT_CHANNEL
    expires_in_seconds: ExpiresIn = EXPIRES_IN_S_DEFAULT
    location: Location = None
    supplier: Supplier = None
    allow_partial: Partial = False
    preferred_locations: Preferred = []
    if_version: Version = None

    def asked(self) -> Asked:
        """Checked.

        Raises:
            Rejected: a field cannot be used.
        """
        if isinstance(self.if_version, str) and not _VERSION.fullmatch(self.if_version):
            detail = f"if_version is {self.if_version[:FIELD_CHARACTERS_MAX]!r}; send the version that a read told"
            raise Rejected("invalid_version", detail, "if_version")
        line = AskedLine(
            identifier("sku", self.sku),
            self.quantity,
            _optional("location", self.location),
            _optional("supplier", self.supplier),
        )
        return Asked(
            [line],
            identifier("orderId", self.order_id),
            identifier("channel", self.channel),
            self.expires_in_seconds,
            self.allow_partial,
            [identifier("preferred_locations", location) for location in self.preferred_locations],
            self.if_version,
        )


class LineRequest(Struct, **_STRICT):
    """Units of one SKU."""

    sku: Id
    quantity: Quantity
    location: Location = None
    supplier: Supplier = None


class ReservationRequest(Struct, **_STRICT):
    """Units for an order."""

    order_id: Order
    lines: Annotated[
        list[LineRequest],
        Meta(min_length=1, max_length=LINES_MAX, description="Those of one SKU are added up."),
    ]
    channel: Channel = DEFAULT_CHANNEL
    allow_partial: Partial = False
    expires_in_seconds: ExpiresIn = EXPIRES_IN_S_DEFAULT
    preferred_locations: Preferred = []

    def asked(self) -> Asked:
        """Checked; raises as `ReserveRequest.asked`."""
        return Asked(
            _lines(self.lines),
            identifier("order_id", self.order_id),
            identifier("channel", self.channel),
            self.expires_in_seconds,
            self.allow_partial,
            [identifier("preferred_locations", location) for location in self.preferred_locations],
        )


def _lines(given: list[LineRequest]) -> list[AskedLine]:
    """Those of one SKU as one."""
    lines: dict[str, AskedLine] = {}
    for n, each in enumerate(given):
        line = AskedLine(
            identifier(f"lines.{n}.sku", each.sku),
            each.quantity,
            _optional(f"lines.{n}.location", each.location),
            _optional(f"lines.{n}.supplier", each.supplier),
        )
        before = lines.get(line.sku)
        if before is not None:
            line = line._replace(quantity=before.quantity + line.quantity)
        if before is not None and before._replace(quantity=line.quantity) != line:
            detail = f"lines.{n} asks for SKU {line.sku!r} from another place than a line before; leave the place out"
            raise Rejected(MISMATCH, f"{detail}, or send preferred_locations", f"lines.{n}")
        if line.quantity > QUANTITY_MAX:
            raise Rejected(MISMATCH, f"lines.{n}.quantity adds up to more than {QUANTITY_MAX}; send less", f"lines.{n}")
        lines[line.sku] = line
    return list(lines.values())


class ReserveEntry(ReserveRequest):
    """An entry of a batch, answered as `inventory/reserve` answers."""

    idempotency_key: Key | None = None


class ReservationEntry(ReservationRequest):
    """An entry of a batch, answered as `reservations` answers."""

    idempotency_key: Key | None = None


class Batch(Struct, **_STRICT):
    """Entries as they came; each is read by itself, so that one that cannot be used does not end the others."""

    reservations: Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=BATCH_MAX)]


class CommitRequest(Struct, **_STRICT):
    """Nothing: all that is open is committed."""


class Change(NamedTuple):
    """What a call on a reservation asks for. `lines`: none for all there are, or for the one that there is.

    `quantity`: 0 for all that is open. `to_location`: of a transfer.
    """

    quantity: int = 0
    location: str | None = None
    expires_in_s: int = EXPIRES_IN_S_DEFAULT
    lines: Sequence[AskedLine] = ()
    to_location: str | None = None


Only = Annotated[str, Meta(extra_json_schema=_ID_SCHEMA, description="Only what comes from there.")] | None


class LineUnits(Struct, **_STRICT):
    """How much of one SKU; all that is open, where left out."""

    sku: Id
    quantity: Quantity | None = None
    location: Only = None


class UnitsRequest(Struct, **_STRICT):
    """How much of the reservation it is about; all that is open, where left out.

    `quantity` and `location` for a reservation of one SKU; `lines` for any.
    """

    quantity: Quantity | None = None
    location: Only = None
    lines: Annotated[list[LineUnits], Meta(max_length=LINES_MAX, description="One for each SKU.")] = []

    def change(self) -> Change:
        """Checked; raises as `ReserveRequest.asked`."""
        lines: dict[str, AskedLine] = {}
        for n, each in enumerate(self.lines):
            sku, location = identifier(f"lines.{n}.sku", each.sku), _optional(f"lines.{n}.location", each.location)
            if sku in lines:
                detail = f"lines.{n} is the second one of SKU {sku!r}; send one for each SKU"
                raise Rejected(MISMATCH, detail, f"lines.{n}")
            lines[sku] = AskedLine(sku, each.quantity or 0, location, None)
        return Change(self.quantity or 0, _optional("location", self.location), lines=list(lines.values()))


class TransferRequest(Struct, **_STRICT):
    """Where units are to come from instead of where they come from now."""

    to_location: Annotated[str, Meta(extra_json_schema=_ID_SCHEMA, description="Where they are to come from.")]
    sku: Annotated[str, Meta(extra_json_schema=_ID_SCHEMA, description="Needed where there are several.")] | None = None
    quantity: Quantity | None = None
    location: Only = None

    def change(self) -> Change:
        """Checked; raises as `ReserveRequest.asked`."""
        location, sku = _optional("location", self.location), _optional("sku", self.sku)
        units = self.quantity or 0
        lines = [] if sku is None else [AskedLine(sku, units, location, None)]
        to_location = identifier("to_location", self.to_location)
        return Change(units, location, lines=lines, to_location=to_location)


class ExtendRequest(Struct, **_STRICT):
    """How long it is to be held from now on."""

    expires_in_seconds: ExpiresIn = EXPIRES_IN_S_DEFAULT


T = TypeVar("T")

RESERVE = msgspec.json.Decoder(ReserveRequest)
RESERVATION = msgspec.json.Decoder(ReservationRequest)
BATCH = msgspec.json.Decoder(Batch)
_COMMIT = msgspec.json.Decoder(CommitRequest)
_UNITS = msgspec.json.Decoder(UnitsRequest)
_EXTEND = msgspec.json.Decoder(ExtendRequest)
_TRANSFER = msgspec.json.Decoder(TransferRequest)
_RESERVE_ENTRY = msgspec.json.Decoder(ReserveEntry)
_RESERVATION_ENTRY = msgspec.json.Decoder(ReservationEntry)
_fields_of: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])

_MISSING = re.compile(r"Object missing required field `(.*?)`( - at `\$(.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`( - at `\$(.*)`)?", re.DOTALL)
_OTHER = re.compile(r"(.*?)( - at `\$(.*)`)?", re.DOTALL)


def decoded(raw: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """A body, or an entry of one.

    Raises:
        Rejected: it is not JSON (`MALFORMED`), or not what is wanted.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _fault(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(MALFORMED, f"the body is not JSON ({error}); send one object") from None


def entry(raw: msgspec.Raw) -> ReserveEntry | ReservationEntry:
    """An entry of a batch; one with lines is a `ReservationEntry`. Raises as `decoded`."""
    if "lines" in decoded(raw, _fields_of):
        return decoded(raw, _RESERVATION_ENTRY)
    return decoded(raw, _RESERVE_ENTRY)


def change(action: str, raw: bytes) -> Change:
    """The body of a call on a reservation; empty as if it were `{}`. Raises as `decoded`."""
    raw = raw or b"{}"
    if action == EXTEND:
        return Change(expires_in_s=decoded(raw, _EXTEND).expires_in_seconds)
    if action == COMMIT:
        decoded(raw, _COMMIT)
        return Change()
    return decoded(raw, _TRANSFER).change() if action == TRANSFER else decoded(raw, _UNITS).change()


def fitted(action: str, asked: Change, sku: str) -> Change:
    """What is asked, as it is to be done with a reservation of a SKU; `NO_SKU`: of several.

    Raises:
        Rejected: it does not say which line, or says it of another one.
    """
    if action in (COMMIT, EXTEND):
        return asked
    return _of_several(action, asked) if sku == NO_SKU else _of_one(asked, sku)


def _of_several(action: str, asked: Change) -> Change:
    if action == TRANSFER and not asked.lines:
        raise Rejected(MISMATCH, "sku is missing, and the reservation has several; send the one to transfer", "sku")
    if action != TRANSFER and (asked.quantity or asked.location is not None):
        field = "quantity" if asked.quantity else "location"
        detail = f"{field} is given, and the reservation has several SKUs; send it with its sku, in lines"
        raise Rejected(MISMATCH, detail, field)
    return asked._replace(quantity=0, location=None)


def _of_one(asked: Change, sku: str) -> Change:
    if not asked.lines:
        return asked
    [line, *more] = asked.lines
    if more or line.sku != sku:
        raise Rejected(MISMATCH, f"the reservation is of SKU {sku!r} alone; name no other", "lines")
    if asked.to_location is None and (asked.quantity or asked.location is not None):
        raise Rejected(MISMATCH, "quantity or location is given beside lines; send one or the other", "lines")
    return asked._replace(quantity=line.quantity, location=line.location, lines=())


def _optional(name: str, text: str | None) -> str | None:
    return None if text is None else identifier(name, text)


def _fault(said: str) -> Rejected:
    """What msgspec says, as the field at fault and the remedy."""
    if found := _MISSING.fullmatch(said):
        field = _field(found[3], found[1])
        return Rejected("missing", f"{field} is missing; send it", field)
    if found := _UNKNOWN.fullmatch(said):
        field = _field(found[3], found[1])
        return Rejected("unknown_field", f"{field} is not a field here; remove it, or mend its spelling", field)
    found = _OTHER.fullmatch(said)
    what, where = (said, None) if found is None else (found[1], found[3])
    field = _field(where)
    if what.startswith("Expected `int") and what.endswith("got `float`"):
        return Rejected("not_an_integer", f"{field} is not a whole number; send it without fraction or exponent", field)
    what = what[:1].lower() + what[1:]
    detail = f"{field or 'the body'} cannot be used: {what}; mend it, /openapi.json says what is taken"
    return Rejected("invalid_field", detail, field or None)


def _field(path: str | None, name: str = "") -> str:
    """`$.lines[0]` and `sku` as `lines.0.sku`."""
    parts = re.findall(r"[^.\[\]]+", path or "")
    return ".".join([*parts, *([name] if name else [])])[:FIELD_CHARACTERS_MAX]
