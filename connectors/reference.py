"""Every option of a supplier's file, from the models that check it: `python -m connectors.reference > docs/...`.

A test holds `docs/connectors/reference.md` to it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import orjson

from connectors.configuration.models import model_of
from connectors.kinds import built_in

HEADINGS = {
    "DelimitedConfig": "Format: csv", "DocumentConfig": "Format: json", "LinesConfig": "Format: ndjson",
    "XmlConfig": "Format: xml", "ExcelConfig": "Format: excel", "X12Config": "Format: x12",
    "EdifactConfig": "Format: edifact", "AvroConfig": "Format: avro", "SchemaRegistry": "Schema registry of avro",
    "TextRule": "Rule of a text",
    "QuantityRule": "Rule of a quantity", "TimeRule": "Rule of a time", "Receipt": "Announced receipts",
    "Feed": "A feed", "Poll": "When it is read", "Limits": "Limits of a supplier", "Secret": "A secret",
    "Mapping": "Mapping", "SkuMapRule": "Map of SKUs", "Since": "Only what changed: rest",
    "SinceVariable": "Only what changed: graphql",
    "SinceArgument": "Only what changed: soap", "GraphqlPages": "Pages of graphql", "WsSecurity": "WS-Security",
    "Hmac": "Signature: hmac", "Stripe": "Signature: stripe", "Standard": "Signature: standard",
    "Token": "Signature: token", "Unsigned": "Signature: none", "Tls": "TLS", "ClientCertificate": "Client certificate",
    "Assertion": "Client assertion",
    "Sasl": "SASL of kafka", "KafkaTls": "TLS of kafka",
}  # fmt: skip
TAGS = ("kind", "format", "by", "scheme")
"""Of members of a union: what tells one from another."""

Schema = dict[str, Any]


def markdown() -> str:
    """The page."""
    schema = model_of(built_in()).model_json_schema()
    lines = [
        "# Options of a supplier's file",
        "",
        "Written by `python -m connectors.reference > docs/connectors/reference.md`; the models are beside what they",
        "configure, in `connectors/`. An option without a default has to be given. Where a rule is wanted, a bare text",
        "stands for `{path: ...}`.",
        "",
        "## A supplier",
        "",
        *_options(schema, schema["$defs"]),
    ]
    models = [(name, model) for name, model in schema["$defs"].items() if "properties" in model]
    for name, model in sorted(models, key=lambda item: _place(item[0], item[1])):
        lines += ["", f"## {_heading(name, model)}", "", *_said(model), *_options(model, schema["$defs"])]
    return "\n".join(lines) + "\n"


def _place(name: str, model: Schema) -> tuple[int, str]:
    """Feeds first, then sources, formats, mappings, the rest."""
    heading = _heading(name, model)
    first = ("A feed", "When it is read", "Limits", "Kind", "Format", "Mapping", "Rule", "Announced", "Only", "Pages")
    return next((n for n, begin in enumerate(first) if heading.startswith(begin)), len(first)), heading


def _heading(name: str, model: Schema) -> str:
    if name in HEADINGS:
        return HEADINGS[name]
    for tag in TAGS:
        if "const" in model["properties"].get(tag, {}):
            value = model["properties"][tag]["const"]
            what = "Kind" if name.endswith("Config") else {"by": "Pages"}.get(tag, "Credentials")
            return f"{what}: {value}"
    return name


def _said(model: Schema) -> Iterator[str]:
    if "description" in model:
        yield from model["description"].splitlines()
        yield ""


def _options(model: Schema, models: Schema) -> Iterator[str]:
    yield "| option | what may be there | default |"
    yield "|---|---|---|"
    required = model.get("required", [])
    for name, option in model["properties"].items():
        default = "" if name in required else f"`{orjson.dumps(option.get('default')).decode()}`"
        if "default" not in option and name not in required:
            default = "as its own defaults"
        yield f"| `{name}` | {_kind(option, models)} | {default} |"


def _kind(option: Schema, models: Schema) -> str:
    """What may be there, in words."""
    if "$ref" in option:
        name = option["$ref"].rpartition("/")[2]
        if "properties" not in models[name]:
            return "any value"  # of JSON
        heading = _heading(name, models[name])
        return f"[{heading}](#{heading.lower().replace(' ', '-').replace(':', '')})"
    for many in ("anyOf", "oneOf"):
        if many in option:
            return " or ".join(_kind(each, models) for each in option[many] if each.get("type") != "null")
    if "const" in option or "enum" in option:
        return " or ".join(f"`{value}`" for value in option.get("enum", [option.get("const")]))
    if option.get("type") == "array":
        return f"a list of {_kind(option['items'], models)}"
    if option.get("type") == "object":
        of = [*option.get("patternProperties", {}).values(), option.get("additionalProperties")]
        return f"names, each with {_kind(of[0], models)}" if isinstance(of[0], dict) else "names"
    bounds = [f"{said} {option[name]}" for name, said in _BOUNDS.items() if name in option]
    return " ".join([_TYPES.get(option.get("type", ""), "any value"), *bounds]).replace("|", "\\|")


_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
_BOUNDS = {
    "minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "minLength": "of at least",
    "maxLength": "of at most", "pattern": "like",
}  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(markdown())
