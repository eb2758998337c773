"""The push routes in the API's description (OpenAPI 3.1); what is sent comes from the models that check it.

`contribution()` is merged into /openapi.json by the read API, which defines the component `Problem`. Called once.
"""

from __future__ import annotations

from typing import Any

from connectors.push.app import BATCH_PATH, ROOT, UPDATE_PATH
from connectors.push.body import NDJSON
from connectors.push.models import ID_SCHEMA, InventoryUpdate
from stockweave.bodies import JSON
from stockweave.problems import MEDIA_TYPE
from stockweave.settings import Settings

Document = dict[str, Any]

_REF = "#/components/schemas/"
_STRING, _INTEGER = {"type": "string"}, {"type": "integer"}
_COUNT = {"type": "integer", "minimum": 0}
_FIELD = {"type": ["string", "null"], "description": "As the sender spells it; null for the whole update."}
_DETAIL = {"type": "string", "description": "What is wrong and how to mend it."}
_REASON = {"type": "string", "description": "A stable code; `in_doubt`: Kafka may or may not have it."}
_EXAMPLE = {"sku": "8345123", "quantity": 12, "timestamp": "2026-11-21T09:30:00Z", "updateId": "count-20261121-8345123"}


def contribution(settings: Settings) -> Document:
    """Tags, paths and components of the push routes; limits are told as `settings` has them."""
    tag = {"name": "push", "description": "What suppliers send."}
    return {"tags": [tag], "paths": openapi_paths(settings), "components": openapi_components()}


def openapi_paths(settings: Settings) -> Document:
    """The routes by their whole path."""
    supplier = {
        "name": "supplierId",
        "in": "path",
        "required": True,
        "description": "Who says it; percent-encoded.",
        "schema": _STRING | ID_SCHEMA,
    }
    trace = {"name": "traceparent", "in": "header", "description": "W3C trace context.", "schema": _STRING}
    shared = {"tags": ["push"], "parameters": [supplier, trace]}
    refusals = {
        "400": _problem("The body cannot be read: malformed JSON, or not the encoding that it claims."),
        "415": _problem("Another Content-Type or Content-Encoding."),
    }
    one = {
        "operationId": "pushUpdate",
        "summary": "One update; answered once Kafka has it.",
        "requestBody": {"required": True, "content": {JSON: {"schema": _ref("InventoryUpdate"), "example": _EXAMPLE}}},
        "responses": {
            "202": _answer("Kafka has it.", "PushReceipt"),
            **refusals,
            "413": _problem(f"A body of more than {settings.line_bytes_max} bytes."),
            "422": _problem("The update cannot be used; `errors` names every field.", "InvalidUpdate"),
            "503": _problem("Kafka is away. With `inDoubt` it may have the update; sending it again is safe."),
        },
    }
    lines = {"type": "string", "description": f"One update a line, each up to {settings.line_bytes_max} bytes."}
    many = {
        "operationId": "pushBatch",
        "summary": "Many updates: an array, or NDJSON of any length; answered once Kafka has all that is accepted.",
        "requestBody": {
            "required": True,
            "content": {
                NDJSON: {"schema": lines},
                JSON: {"schema": {"type": "array", "minItems": 1, "items": _ref("InventoryUpdate")}},
            },
        },
        "responses": {
            "202": _answer("Every update was accepted.", "BatchResult"),
            "207": _answer("Some were rejected, and are listed; the others were accepted.", "BatchResult"),
            **refusals,
            "413": _problem(f"An array of more than {settings.body_bytes_max} bytes; NDJSON has no limit."),
            "422": _problem("Not a batch, an empty one, or one that fails too often to go on."),
            "503": _problem("Kafka went away; what was read is accounted for, line by line.", "StoppedBatch"),
        },
    }
    return {ROOT + UPDATE_PATH: {"post": shared | one}, ROOT + BATCH_PATH: {"post": shared | many}}


def openapi_components() -> Document:
    """What the routes refer to."""
    update = InventoryUpdate.model_json_schema(by_alias=True, ref_template=_REF + "{model}")
    schemas: Document = update.pop("$defs")
    schemas["InventoryUpdate"] = update
    token = {"type": ["string", "null"], "description": "For a read's `min_offset`; null when nothing was accepted."}
    schemas["PushReceipt"] = _object(
        "Where the update lies.", topic=_STRING, partition=_INTEGER, offset=_INTEGER, token=_STRING
    )
    schemas["LineError"] = _object(
        "A line that was not accepted; numbered from 1, empty lines included.",
        line={"type": "integer", "minimum": 1},
        reason=_REASON,
        field=_FIELD,
        detail=_DETAIL,
    )
    account: Document = {
        "received": _COUNT,
        "accepted": _COUNT,
        "rejected": _COUNT,
        "inDoubt": _COUNT,
        "token": token,
        "errors": {"type": "array", "items": _ref("LineError")},
    }
    schemas["BatchResult"] = _object(
        "What became of every line: the last three counts add up to `received`.", **account
    )
    last_line = _COUNT | {"description": "The last line that is accounted for; none after it was sent."}
    stopped = _object("The account of a batch that was cut short.", lastLine=last_line, **account)
    schemas["StoppedBatch"] = {"allOf": [_ref("Problem"), stopped]}
    fault = _object("A fault of the update.", reason=_REASON, field=_FIELD, detail=_DETAIL)
    errors = {"type": "array", "minItems": 1, "items": fault, "description": "Left out where the address is at fault."}
    faults = {"type": "object", "description": "All that is wrong.", "properties": {"errors": errors}}
    schemas["InvalidUpdate"] = {"allOf": [_ref("Problem"), faults]}
    return {"schemas": schemas}


def _ref(name: str) -> Document:
    return {"$ref": _REF + name}


def _object(description: str, **properties: Document) -> Document:
    return {"type": "object", "description": description, "properties": properties, "required": list(properties)}


def _answer(description: str, schema: str) -> Document:
    return {"description": description, "content": {JSON: {"schema": _ref(schema)}}}


def _problem(description: str, schema: str = "Problem") -> Document:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": _ref(schema)}}}
