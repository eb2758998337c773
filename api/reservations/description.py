"""The reservation routes in the API's description (OpenAPI 3.1); what is sent and answered comes from the types.

Merged into /openapi.json by `api.openapi`, which defines the component `Problem`. Called once.
"""

from __future__ import annotations

from typing import Any

import msgspec

from api.reservations import answers, ids, requests
from api.reservations.routes import BATCH, BATCH_BYTES_MAX, BODY_BYTES_MAX, KEY, OF_ORDER_MAX, ONE, RESERVE, ROOT
from schemas.keys import ID_PATTERN
from stockweave.bodies import JSON
from stockweave.problems import MEDIA_TYPE

Document = dict[str, Any]

_TYPES = (
    requests.ReserveRequest, requests.ReservationRequest, requests.ReserveEntry, requests.ReservationEntry,
    requests.CommitRequest, requests.UnitsRequest, requests.ExtendRequest, requests.TransferRequest,
    answers.Reserved, answers.Reservation, answers.ReservationHistory, answers.Reservations, answers.ReservationResults,
)  # fmt: skip
_REF = "#/components/schemas/"
_SKU, _ORDER = "8345123", "order-4711"
_EXAMPLE = {"sku": _SKU, "quantity": 2, "orderId": _ORDER}
_WHOLE_EXAMPLE = {
    "order_id": _ORDER,
    "channel": "web",
    "lines": [{"sku": _SKU, "quantity": 2}, {"sku": "8345124", "quantity": 1}],
}
_KEY = {
    "name": KEY,
    "in": "header",
    "description": "A name for this call, such as a UUID. A repeat with the same one has no effect, and gets the one "
    "true answer; without it, every call is another one.",
    "schema": {"type": "string", "minLength": 1, "maxLength": ids.KEY_CHARACTERS_MAX, "pattern": ids.KEY_PATTERN},
}
_BATCH_KEY = _KEY | {
    "description": "With their places, it names the entries that have no idempotency_key of their own; then the same "
    "entries have to come again in the same order."
}
_ONE = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The reservation_id that a call was told.",
    "schema": {"type": "string", "pattern": ids.ID_PATTERN},
}
_ORDER_ID = {
    "name": "order_id",
    "in": "query",
    "required": True,
    "description": "The shop's order.",
    "schema": {"type": "string", "minLength": 1, "pattern": ID_PATTERN},
}
_LATE = (
    "It is not known in time what was decided: Kafka is away, or the writer of the SKU's partition. The same "
    "Idempotency-Key gets the one true outcome later; see Retry-After."
)
_NOT_HELD = (
    "Refused; `code` says why: SOLD_OUT, with `lines` and what is `left`, VERSION_MISMATCH, LINE_MISMATCH, or "
    "IDEMPOTENCY_CONFLICT."
)
_NOT_CHANGED = (
    "Refused; `code` says why: EXPIRED, INVALID_STATE, with the `state`, LINE_MISMATCH, IDEMPOTENCY_CONFLICT."
)


def contribution() -> Document:
    """Tags, paths and components of the routes."""
    tag = {"name": "reservations", "description": "What a storefront reserves, commits, gives back and ships."}
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template=_REF + "{name}")
    return {"tags": [tag], "paths": _paths(), "components": {"schemas": schemas | {"ReservationBatch": _ENTRIES}}}


def _paths() -> Document:
    paths = {
        RESERVE: {"post": _reserving("reserve", "Reserve units of one SKU.", "ReserveRequest", "Reserved", _EXAMPLE)},
        ROOT: {
            "post": _reserving(
                "createReservation",
                "Reserve units of up to 100 SKUs for an order, all or nothing unless allow_partial; answered in full.",
                "ReservationRequest",
                "Reservation",
                _WHOLE_EXAMPLE,
            ),
            "get": {
                "operationId": "listReservations",
                "summary": f"The reservations of an order, up to {OF_ORDER_MAX:,}.",
                "parameters": [_ORDER_ID],
                "responses": {"200": _answer("Those that this process has heard of.", "Reservations"), **_READ},
            },
        },
        BATCH: {"post": _many()},
        ONE: {
            "get": {
                "operationId": "readReservation",
                "summary": "A reservation as it stands, with its history.",
                "parameters": [_ONE],
                "responses": {"200": _answer("It.", "ReservationHistory"), "404": _UNKNOWN, **_READ},
            }
        },
        ONE + "/commit": {"post": _changing("commit", "Commit: it no longer lapses.", "CommitRequest", {})},
        ONE + "/release": {"post": _changing("release", "Give units back.", "UnitsRequest", {"quantity": 1})},
        ONE + "/fulfil": {"post": _changing("fulfil", "Say that units have left.", "UnitsRequest", {"quantity": 1})},
        ONE + "/extend": {
            "post": _changing(
                "extend", "Let it lapse later, from now on.", "ExtendRequest", {"expires_in_seconds": 1_800}
            )
        },
        ONE + "/transfer": {
            "post": _changing(
                "transfer", "Let units come from another location.", "TransferRequest", {"to_location": "berlin"}
            )
        },
    }
    return {
        path: {method: {"tags": ["reservations"]} | operation for method, operation in operations.items()}
        for path, operations in paths.items()
    }


def _reserving(operation: str, summary: str, body: str, answer: str, example: Document) -> Document:
    location = {"description": "Where the reservation can be read.", "schema": {"type": "string"}}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": [_KEY],
        "requestBody": _body(body, example, required=True),
        "responses": {
            "201": _answer("Reserved, by this call or by an earlier one with its key.", answer)
            | {"headers": {"Location": location}},
            **_UNREAD,
            "404": _problem("Nothing was ever heard of the SKU."),
            "409": _problem(_NOT_HELD),
            "413": _problem(f"A body of more than {BODY_BYTES_MAX} bytes."),
            "503": _problem(_LATE),
        },
    }


def _many() -> Document:
    entries = [_EXAMPLE | {"idempotency_key": "cart-9-1"}, _WHOLE_EXAMPLE | {"idempotency_key": "cart-9-2"}]
    return {
        "operationId": "reserveBatch",
        "summary": f"Up to {requests.BATCH_MAX:,} reservations, decided one by one and answered together.",
        "description": "Entries do not depend on one another: one that is refused does not undo another one.",
        "parameters": [_BATCH_KEY],
        "requestBody": _body("ReservationBatch", {"reservations": entries}, required=True),
        "responses": {
            "200": _answer("What became of each entry, in their order.", "ReservationResults"),
            **_UNREAD,
            "413": _problem(f"A body of more than {BATCH_BYTES_MAX} bytes."),
            "503": _problem(_LATE),
        },
    }


def _changing(operation: str, summary: str, body: str, example: Document) -> Document:
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": [_ONE, _KEY],
        "requestBody": _body(body, example, required=False),
        "responses": {
            "200": _answer("The reservation as it stands.", "Reservation"),
            **_UNREAD,
            "404": _UNKNOWN,
            "409": _problem(_NOT_CHANGED),
            "413": _problem(f"A body of more than {BODY_BYTES_MAX} bytes."),
            "503": _problem(_LATE),
        },
    }


def _body(schema: str, example: Document, *, required: bool) -> Document:
    return {"required": required, "content": {JSON: {"schema": _ref(schema), "example": example}}}


def _ref(name: str) -> Document:
    return {"$ref": _REF + name}


def _answer(description: str, schema: str) -> Document:
    return {"description": description, "content": {JSON: {"schema": _ref(schema)}}}


def _problem(description: str) -> Document:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _ref("Problem")}}}


_ENTRIES: Document = {
    "type": "object",
    "description": "Entries, each as a call of its own would have it.",
    "properties": {
        "reservations": {
            "type": "array",
            "minItems": 1,
            "maxItems": requests.BATCH_MAX,
            "items": {"anyOf": [_ref("ReserveEntry"), _ref("ReservationEntry")]},
        }
    },
    "required": ["reservations"],
    "additionalProperties": False,
}
_UNKNOWN = _problem("There is no such reservation.")
_UNREAD = {
    "400": _problem("The body cannot be read, or is not JSON."),
    "415": _problem("Another Content-Type or Content-Encoding."),
    "422": _problem("A field, a header or a parameter cannot be used; `field` names it."),
}
_READ = {
    "422": _problem("A parameter cannot be used; `field` names it."),
    "503": _problem("The view is still being read; see Retry-After."),
}
