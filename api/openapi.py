"""The API's description (OpenAPI 3.1): this folder's routes, and what other parts contribute, as one document.

The answers' schemas come from the types that are encoded, so they cannot drift. Other parts (the push routes) hand in
partial documents: `paths`, `components`, `tags`. Called once, when the app is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from api.answers import Item as OneItem
from api.answers import Items, Page, RowAnswer
from api.params import DIGITS_MAX, LIMIT_DEFAULT, LIMIT_MAX, SKUS_MAX
from api.routes import ROOT
from api.suppliers import ROOT as SUPPLIERS
from api.suppliers import SupplierHealth, Suppliers
from api.system import Health, Readiness, Stats
from schemas.keys import ID_PATTERN, IDS_PATTERN
from stockweave.errors import Fatal

Document = dict[str, Any]

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened and how to mend it."},
        "reason": {"type": "string", "description": "A stable code."},
        "field": {"type": "string", "description": "The parameter or field at fault."},
        "code": {"type": "string", "description": "Why a reservation was refused: as `reason`, in capitals."},
    },
    "required": ["type", "title", "status", "detail", "reason"],
}
_INFO = """\
Suppliers' stock feeds in, one number per SKU out, exactly once.

A read can wait for a write: give the `token` that the write returned as `min_offset`. Errors are problem details.

A call that reserves, or changes a reservation, is answered once that is decided, and can be repeated by its
`Idempotency-Key`.
"""


def document(contributions: Iterable[Mapping[str, Any]] = ()) -> Document:
    """The whole description.

    Args:
        contributions: partial documents of other parts.

    Raises:
        Fatal: two parts describe the same path or component.
    """
    whole: Document = {
        "openapi": "3.1.0",
        "info": {"title": "Stockweave", "version": version("stockweave"), "description": _INFO},
        "tags": [],
        "paths": {},
        "components": {"schemas": {"Problem": _PROBLEM}},
    }
    for part in (_own(), *contributions):
        whole["tags"] += part.get("tags", [])
        _merge(whole["paths"], part.get("paths", {}), "path")
        for kind, components in part.get("components", {}).items():
            _merge(whole["components"].setdefault(kind, {}), components, kind)
    return whole


def _merge(into: Document, part: Mapping[str, Any], kind: str) -> None:
    for name, value in part.items():
        if into.setdefault(name, value) != value:
            raise Fatal(f"two parts of the API describe {kind} {name!r} differently; rename one of them")


def _own() -> Document:
    types = (OneItem, Items, Page, RowAnswer, Health, Readiness, Stats, Suppliers, SupplierHealth)
    refs, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    item, items, page, row, health, readiness, stats, suppliers, supplier = refs
    ready = _simple("readiness", "Whether every partition of the view can be read.", readiness)
    ready["responses"]["503"] = _answer("Not yet.", readiness)
    metrics: Document = {"operationId": "metrics", "summary": "Metrics for Prometheus."}
    metrics["responses"] = {
        "200": {"description": "Text.", "content": {"text/plain": {}, "application/openmetrics-text": {}}}
    }
    availability = {ROOT: _inventory({"oneOf": [item, items, page]}), ROOT + "/{sku}": _whole_row(row)}
    operations = {
        SUPPLIERS: _suppliers(suppliers),
        SUPPLIERS + "/{supplier}/health": _supplier(supplier),
        "/api/v1/stats": _simple("stats", "What became of every supplier's events.", stats),
        "/healthz": _simple("health", "Whether the process is alive.", health),
        "/readyz": ready,
        "/metrics": metrics,
    }
    paths = {path: {"get": {"tags": ["availability"]} | operation} for path, operation in availability.items()}
    paths |= {path: {"get": {"tags": ["operations"]} | operation} for path, operation in operations.items()}
    tags = [
        {"name": "availability", "description": "What a storefront reads."},
        {"name": "operations", "description": "What operators and probes read."},
    ]
    return {"tags": tags, "paths": paths, "components": {"schemas": schemas}}


def _inventory(answers: Document) -> Document:
    return {
        "operationId": "readInventory",
        "summary": "What can be sold: of one SKU, of several, or the list.",
        "description": f"With one SKU the answer is that item. With several, by commas or by repeating `sku` (up to "
        f"{SKUS_MAX}), it is `items` and `unknown`. A SKU that has a comma in it is asked for by its path. "
        "Without `sku` it is a page of the list, ordered by SKU; go on with `next` as `cursor` until that is null. "
        "A page may be short, or empty, before the last one, as every request looks at a bounded number of rows.",
        "parameters": [
            _query("sku", "One SKU, or several; in place of all that is for the list.", _SKUS),
            _query("supplier", "List: only SKUs that this supplier has a source of.", _ID),
            _query("location", "List: only SKUs with a source there (of `supplier`, if given).", _ID),
            _query("in_stock", "List: only SKUs that have something to sell, or that have not.", {"type": "boolean"}),
            _query("updated_since", "List: only SKUs changed since; RFC 3339 or milliseconds.", _SINCE),
            _query("limit", "List: items on a page.", _LIMIT),
            _query("cursor", "List: `next` of the page before.", _CURSOR),
            _CHANNEL,
            _MIN_OFFSET,
            _IF_NONE_MATCH,
        ],
        "responses": {
            "200": _answer("The item, the items, or the page.", answers),
            "304": {"description": "The item is as the client has it."},
            "404": _problem("The one SKU is unknown."),
            "410": _problem("The cursor is of an earlier generation: begin again."),
            **_REFUSALS,
        },
    }


def _whole_row(row: Document) -> Document:
    sku = {"name": "sku", "in": "path", "required": True, "description": "Percent-encoded; may have slashes."}
    return {
        "operationId": "readRow",
        "summary": "Everything that is known of a SKU, source by source.",
        "parameters": [sku | {"schema": _ID}, _CHANNEL, _MIN_OFFSET, _IF_NONE_MATCH],
        "responses": {
            "200": _answer("The row.", row),
            "304": {"description": "The row is as the client has it."},
            "404": _problem("The SKU is unknown."),
            **_REFUSALS,
        },
    }


def _suppliers(answer: Document) -> Document:
    described = _simple("suppliers", "All suppliers, each with its score.", answer)
    described["responses"] |= {"422": _NO_PARAMETERS, "503": _HEALTH_LATE}
    return described


def _supplier(answer: Document) -> Document:
    name = {"name": "supplier", "in": "path", "required": True, "description": "Percent-encoded; may have slashes."}
    return {
        "operationId": "supplierHealth",
        "summary": "How far a supplier can be relied on, feed by feed, and what that is made of.",
        "parameters": [name | {"schema": _ID}],
        "responses": {
            "200": _answer("Its health.", answer),
            "404": _problem("Nothing was ever heard of the supplier."),
            "422": _NO_PARAMETERS,
            "503": _HEALTH_LATE,
        },
    }


def _query(name: str, description: str, schema: Document) -> Document:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _answer(description: str, schema: Document) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problem(description: str) -> Document:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


def _simple(operation: str, summary: str, schema: Document) -> Document:
    return {"operationId": operation, "summary": summary, "responses": {"200": _answer(summary, schema)}}


_ID = {"type": "string", "minLength": 1, "pattern": ID_PATTERN}
_SKUS = {"type": "array", "minItems": 1, "maxItems": SKUS_MAX, "items": {"type": "string", "pattern": IDS_PATTERN}}
_CURSOR = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
_TOKEN = {"type": "string", "pattern": "^[0-9]{1,18}-[0-9]{1,18}(,[0-9]{1,18}-[0-9]{1,18})*$"}
_SINCE = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "integer", "minimum": 0, "maximum": 10**DIGITS_MAX - 1},
    ]
}
_LIMIT = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}
_CHANNEL = _query("channel", "By whose policies: a sales channel's; one that has none is as the default.", _ID)
_MIN_OFFSET = _query("min_offset", "The `token` of a write: wait, for a bounded time, until the answer has it.", _TOKEN)
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "Of one SKU: the ETag that the client has. It is weak, as ages move on: it names generation and "
    "version of the row, how many of its sources are stale, and the revision of the policies.",
    "schema": {"type": "string"},
}
_NO_PARAMETERS = _problem("The supplier's id cannot be one, or there is a query; `field` names what is wrong.")
_HEALTH_LATE = _problem("The health of feeds is still being read; see Retry-After.")
_REFUSALS = {
    "422": _problem("A parameter cannot be used; `field` names it."),
    "503": _problem("The view is still being read, or has not passed min_offset in time; see Retry-After."),
}
