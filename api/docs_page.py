"""The API's description as a page for people: made here from the OpenAPI document, with nothing fetched from anywhere.

A GET without path parameters can be tried from its form; everything else comes with a curl line. Plain HTML, no script.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--accent:#0a7d5a}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{margin-bottom:0}h2{margin-top:2.5rem;border-bottom:1px solid var(--line)}
details{border:1px solid var(--line);border-radius:6px;margin:.6rem 0;padding:.4rem .8rem}
summary{cursor:pointer}summary b{display:inline-block;min-width:3.5rem;color:var(--accent)}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:var(--soft);padding:.6rem;overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.5rem 0}
td,th{text-align:left;vertical-align:top;border-bottom:1px solid var(--line);padding:.25rem .5rem}
input{font:inherit;width:100%;box-sizing:border-box}button{font:inherit;margin:.4rem 0;padding:.2rem 1rem}
"""
METHODS = ("get", "post", "put", "patch", "delete")


def render(document: Mapping[str, Any], base: str) -> str:
    """The page of an OpenAPI document; `base`: where the API was found, for the curl lines."""
    info = document["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} API</h1>",
        f'<p>Version {escape(info["version"])} · <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1)</p>',
        *(f"<p>{escape(text)}</p>" for text in info["description"].split("\n\n")),
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'].capitalize())}</h2><p>{escape(tag.get('description', ''))}</p>")
        parts += [
            _operation(method, path, operation, base)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if method in METHODS and tag["name"] in operation.get("tags", ())
        ]
    parts.append("<h2>Schemas</h2>")
    parts += [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    return "".join([*parts, "</body></html>"])


def _operation(method: str, path: str, operation: Mapping[str, Any], base: str) -> str:
    parameters = operation.get("parameters", [])
    name = f"<b>{method.upper()}</b> <code>{escape(path)}</code>"
    parts = [
        f'<details id="{escape(operation.get("operationId", ""))}">',
        f"<summary>{name} {escape(operation.get('summary', ''))}</summary>",
        f"<p>{escape(operation.get('description', ''))}</p>",
    ]
    tryable = method == "get" and "{" not in path
    rows = "".join(_parameter(p, tryable) for p in parameters)
    if rows:
        rows = f"<table><tr><th>parameter</th><th>what</th><th></th></tr>{rows}</table>"
    if tryable:
        rows = f'<form action="{escape(path)}" method="get">{rows}<button>Try it</button></form>'
    parts.append(rows)
    if body := operation.get("requestBody"):
        parts += [f"<p>Body: {_content(body)}</p>", *_examples(body)]
    parts.append(f"<pre>{escape(_curl(method, base + path, operation))}</pre>")
    parts.append("<table><tr><th>status</th><th>answer</th></tr>")
    for status, response in operation.get("responses", {}).items():
        text = escape(response.get("description", ""))
        parts.append(f"<tr><td>{escape(str(status))}</td><td>{text} {_content(response)}</td></tr>")
    return "".join([*parts, "</table></details>"])


def _parameter(parameter: Mapping[str, Any], tryable: bool) -> str:
    name = escape(parameter["name"])
    field = f'<input name="{name}" aria-label="{name}">' if tryable and parameter["in"] == "query" else ""
    what = escape(parameter.get("description", ""))
    return (
        f"<tr><td><code>{name}</code><br>{escape(parameter['in'])}</td>"
        f"<td>{what} {_type(parameter.get('schema', {}))}</td><td>{field}</td></tr>"
    )


def _schema(title: str, schema: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{_type(of)}</td><td>{escape(of.get('description', ''))}</td></tr>"
        for name, of in schema.get("properties", {}).items()
    )
    return (
        f'<details id="schema-{escape(title)}"><summary><code>{escape(title)}</code> '
        f"{escape(schema.get('description', ''))}</summary><table>{rows}</table></details>"
    )


def _type(schema: Mapping[str, Any]) -> str:
    """A schema's type in words, with links to those that have a name."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{escape(name)}"><code>{escape(name)}</code></a>'
    for key, word in (("anyOf", " or "), ("oneOf", " or "), ("allOf", " and ")):
        if key in schema:
            return word.join(map(_type, schema[key]))
    if isinstance(schema.get("type"), list):
        return " or ".join(f"<code>{escape(kind)}</code>" for kind in schema["type"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return f"<code>{escape(str(schema.get('format', schema.get('type', 'any'))))}</code>"


def _content(of: Mapping[str, Any]) -> str:
    return ", ".join(
        f"<code>{escape(media)}</code> {_type(content['schema']) if 'schema' in content else ''}"
        for media, content in of.get("content", {}).items()
    )


def _examples(body: Mapping[str, Any]) -> Iterator[str]:
    for content in body.get("content", {}).values():
        for example in content.get("examples", {}).values():
            yield f"<pre>{escape(_text(example.get('value')))}</pre>"
        if "example" in content:
            yield f"<pre>{escape(_text(content['example']))}</pre>"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _curl(method: str, url: str, operation: Mapping[str, Any]) -> str:
    if method == "get":
        return f"curl -s '{url}'"
    contents: Mapping[str, Any] = operation.get("requestBody", {}).get("content", {})
    media = next(iter(contents), "application/json")
    content = contents.get(media, {})
    examples = [e.get("value") for e in content.get("examples", {}).values()]
    example = content.get("example", examples[0] if examples else "…")
    body = example if isinstance(example, str) else json.dumps(example, ensure_ascii=False)
    return f"curl -s -X {method.upper()} '{url}' -H 'Content-Type: {media}' -d '{body}'"
