"""BACKWARD compatibility of Avro schemas: may a reader of one version read what an earlier version wrote?

By the resolution rules of the Avro specification 1.12 ("Schema Resolution"), over the schemas themselves and not over
samples. Used by the release of a schema and by the tests over every pair of versions.
"""

from __future__ import annotations

from typing import Any

PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def incompatibilities(reader: Any, writer: Any) -> list[str]:  # noqa: ANN401 - Avro schemas are JSON
    """What stops `reader` from reading data written with `writer`; empty when nothing does. Each names its field."""
    return _Comparison(_named(reader), _named(writer)).compare(reader, writer, "")


def _named(schema: Any, found: dict[str, Any] | None = None) -> dict[str, Any]:  # noqa: ANN401
    """All named types of a schema by their short name; our schemas live in one namespace."""
    found = {} if found is None else found
    if isinstance(schema, list):
        for branch in schema:
            _named(branch, found)
    elif isinstance(schema, dict):
        kind = schema["type"]
        if kind in ("record", "enum", "fixed"):
            found[schema["name"]] = schema
        for field in schema["fields"] if kind == "record" else ():
            _named(field["type"], found)
        inner = {"array": "items", "map": "values"}.get(kind) if isinstance(kind, str) else "type"
        if inner is not None:
            _named(schema[inner], found)
    return found


class _Comparison:
    def __init__(self, reader_names: dict[str, Any], writer_names: dict[str, Any]) -> None:
        self.reader_names, self.writer_names = reader_names, writer_names
        self.seen: set[tuple[str, str]] = set()

    def compare(self, reader: Any, writer: Any, path: str) -> list[str]:  # noqa: ANN401
        reader, writer = _bare(reader, self.reader_names), _bare(writer, self.writer_names)
        if isinstance(writer, list):
            return [problem for branch in writer for problem in self.compare(reader, branch, path)]
        if isinstance(reader, list):
            tried = [self.compare(branch, writer, path) for branch in reader]
            return [] if [] in tried else [f"{path or 'schema'}: {_type(writer)} is in no branch of the reader's union"]
        kind, was = _type(reader), _type(writer)
        if kind != was:
            allowed = kind in PROMOTIONS.get(was, ())
            return [] if allowed else [f"{path or 'schema'}: was {was}, is {kind}"]
        check = {"record": self._records, "enum": _enums, "fixed": _fixed}.get(kind)
        if check is not None:
            renamed = reader["name"] != writer["name"]
            return [f"{path or 'schema'}: renamed from {writer['name']}"] * renamed + check(reader, writer, path)
        inner = {"array": "items", "map": "values"}.get(kind)
        return self.compare(reader[inner], writer[inner], f"{path}[]") if inner else []

    def _records(self, reader: dict[str, Any], writer: dict[str, Any], path: str) -> list[str]:
        if (reader["name"], writer["name"]) in self.seen:
            return []
        self.seen.add((reader["name"], writer["name"]))
        problems: list[str] = []
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            here = f"{path}.{field['name']}".lstrip(".")
            names = [field["name"], *field.get("aliases", ())]
            match = next((written[name] for name in names if name in written), None)
            if match is not None:
                problems += self.compare(field["type"], match["type"], here)
            elif "default" not in field:
                problems.append(f"{here}: new, without a default")
        return problems


def _bare(schema: Any, names: dict[str, Any]) -> Any:  # noqa: ANN401
    """The type itself, of a name, and of what says no more than that its type is another."""
    while isinstance(schema, dict) and isinstance(schema["type"], dict | list):
        schema = schema["type"]
    return names.get(schema, schema) if isinstance(schema, str) else schema


def _enums(reader: dict[str, Any], writer: dict[str, Any], path: str) -> list[str]:
    gone = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    return [f"{path}: symbols {gone} are gone and there is no default"] if gone and "default" not in reader else []


def _fixed(reader: dict[str, Any], writer: dict[str, Any], path: str) -> list[str]:
    return [] if reader["size"] == writer["size"] else [f"{path}: size was {writer['size']}, is {reader['size']}"]


def _type(schema: Any) -> str:  # noqa: ANN401
    while isinstance(schema, dict):
        schema = schema["type"]
    return "union" if isinstance(schema, list) else str(schema)
