"""The shape of a body: whether bytes are one value of a schema, found out before a decoder that trusts them reads them.

fastavro, reading what a reader does not ask for, takes a body that breaks off for whole, recurses until the process
dies, and repeats what has no bytes for as long as a count says; it also takes an index below zero for one from the end.
So a registered schema is brought to its plain form here, or refused, and each body is walked once in Python. Invariant:
a body that passes is read to its last byte by each decoder, in time and memory bounded by its length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from stockweave.errors import Rejected

DEPTH_MAX = 32  # of types in types
PARTS_MAX = 1_000  # of a value, its lists taken as one: what a body of few bytes can ask for

_LONG_BYTES_MAX = 10
_WRAPPED = (1 << 64) - 1
_LEAST = -(1 << 63)

Check = Callable[[bytes, int], int]
"""From where a value begins to where it ends; raises IndexError or ValueError where it does not fit."""


class Type(NamedTuple):
    """A type of a schema. `plain`: without what is no part of the encoding; `bytes_min`: of any value of it."""

    plain: Any
    check: Check
    bytes_min: int
    depth: int = 0
    parts: int = 1


class Shape:
    """Of the bodies that one schema describes.

    Args:
        schema: as a registry gives it, which may be anything.
        entries_max: of each array and map.
        skipped: whether a reader may skip parts of a body. It goes by the sizes of blocks then, so they must be true.
        logical: whether the plain form keeps what numbers and bytes mean (times, decimals), where it is as Avro says.

    Raises:
        Rejected: `unknown_schema_id`; the schema is none, or one whose bodies cannot be read within bounds.
    """

    def __init__(self, schema: object, entries_max: int, *, skipped: bool, logical: bool = False) -> None:
        self._is_logical = logical
        self._entries_max = entries_max
        self._sizes_count = skipped
        self._named: dict[str, Type | None] = {}  # None: is being read, so that it would hold itself
        whole = self._type(schema, "", 0)
        self._check = whole.check
        self.plain: Any = whole.plain

    def fault(self, body: bytes) -> str | None:
        """Why the body is no value of the schema; None when it is one, and nothing else."""
        try:
            end = self._check(body, 0)
        except IndexError:
            return "it ends too early"
        except ValueError as error:
            return str(error)
        if end > len(body):
            return "it ends too early"
        return f"{len(body) - end} bytes follow it; is the schema id right?" if end < len(body) else None

    def end(self, data: bytes, at: int) -> int | None:
        """Where the value ends that begins at `at`; None if there is none that fits."""
        try:
            end = self._check(data, at)
        except (IndexError, ValueError):
            return None
        return end if end <= len(data) else None

    def _type(self, schema: object, namespace: str, depth: int) -> Type:
        if depth > DEPTH_MAX:
            raise _unusable(f"its types are nested more than {DEPTH_MAX} deep")
        if isinstance(schema, str):
            return _PRIMITIVES.get(schema) or self._known(schema, namespace, depth)
        if isinstance(schema, list):
            return self._union(schema, namespace, depth)
        if not isinstance(schema, dict):
            raise _unusable(f"{_shown(schema)} is no type")
        kind = schema.get("type")
        if isinstance(kind, str) and kind in self._COMPLEX:
            found = self._COMPLEX[kind](self, schema, namespace, depth)
        else:
            found = self._type(kind, namespace, depth + 1)
        return _meant(found, schema) if self._is_logical else found

    def _known(self, name: str, namespace: str, depth: int) -> Type:
        full = _full(name, namespace)
        full = full if full in self._named else name
        if full not in self._named:
            raise _unusable(f"there is no type {_shown(name)}")
        known = self._named[full]
        if known is None:
            raise _unusable(f"{_shown(full)} holds itself, so that no bound is on how deep its values are")
        if depth + known.depth > DEPTH_MAX:
            raise _unusable(f"its types are nested more than {DEPTH_MAX} deep")
        return known._replace(plain=full)

    def _union(self, branches: list[Any], namespace: str, depth: int) -> Type:
        if not branches:
            raise _unusable("a union has no branch")
        types = [self._type(branch, namespace, depth + 1) for branch in branches]
        if any(isinstance(t.plain, list) for t in types):
            raise _unusable("a union is a branch of a union")
        checks = [t.check for t in types]

        def check(body: bytes, at: int) -> int:
            branch, at = _long(body, at)
            if not 0 <= branch < len(checks):
                raise ValueError(f"branch {branch} is asked for; there are {len(checks)}")
            return checks[branch](body, at)

        parts = 1 + max(t.parts for t in types)
        return Type([t.plain for t in types], check, 1 + min(t.bytes_min for t in types), _deepest(types), parts)

    def _record(self, schema: dict[str, Any], namespace: str, depth: int) -> Type:
        name = self._begin(schema, namespace)
        fields = schema.get("fields")
        if not isinstance(fields, list) or not all(isinstance(f, dict) for f in fields):
            raise _unusable(f"record {_shown(name)} has no fields")
        names = [_text(f.get("name"), "the name of a field") for f in fields]
        if len(set(names)) < len(names):
            raise _unusable(f"record {_shown(name)} has a field twice")
        if not all(_is_aliases(f.get("aliases", [])) for f in fields):
            raise _unusable(f"a field of {_shown(name)} has aliases that are no names")
        inner_namespace = name.rpartition(".")[0]
        types = [self._type(f.get("type"), inner_namespace, depth + 1) for f in fields]
        parts = 1 + sum(t.parts for t in types)
        if parts > PARTS_MAX:
            raise _unusable(f"its values have more than {PARTS_MAX} parts")
        plain = {
            "type": "record",
            "name": name,
            "fields": [{"name": n, "type": t.plain} for n, t in zip(names, types, strict=True)],
        }
        check = _record_check([t.check for t in types])
        return self._end(name, Type(plain, check, sum(t.bytes_min for t in types), _deepest(types), parts))

    def _enum(self, schema: dict[str, Any], namespace: str, depth: int) -> Type:
        name = self._begin(schema, namespace)
        symbols = schema.get("symbols")
        if not isinstance(symbols, list) or not symbols:
            raise _unusable(f"enum {_shown(name)} has no symbols")
        known = [_text(symbol, f"a symbol of {_shown(name)}") for symbol in symbols]
        if len(set(known)) < len(known):
            raise _unusable(f"enum {_shown(name)} has a symbol twice")

        def check(body: bytes, at: int) -> int:
            symbol, at = _long(body, at)
            if not 0 <= symbol < len(known):
                raise ValueError(f"symbol {symbol} is asked for; there are {len(known)}")
            return at

        return self._end(name, Type({"type": "enum", "name": name, "symbols": known}, check, 1))

    def _fixed(self, schema: dict[str, Any], namespace: str, depth: int) -> Type:
        name, size = self._begin(schema, namespace), schema.get("size")
        if type(size) is not int or not 0 < size < 1 << 31:
            raise _unusable(f"fixed {_shown(name)} has no size")

        def check(body: bytes, at: int) -> int:
            return at + size

        return self._end(name, Type({"type": "fixed", "name": name, "size": size}, check, size))

    def _array(self, schema: dict[str, Any], namespace: str, depth: int) -> Type:
        items = self._type(schema.get("items"), namespace, depth + 1)
        if not items.bytes_min:
            raise _unusable("an array has items that take no bytes, so that no bound is on their number")
        plain = {"type": "array", "items": items.plain}
        return Type(plain, self._blocks(items.check), 1, _deepest([items]), 1 + items.parts)

    def _map(self, schema: dict[str, Any], namespace: str, depth: int) -> Type:
        values = self._type(schema.get("values"), namespace, depth + 1)
        entry = _record_check([_string, values.check])
        plain = {"type": "map", "values": values.plain}
        return Type(plain, self._blocks(entry), 1, _deepest([values]), 1 + values.parts)

    _COMPLEX: ClassVar[dict[str, Callable[[Shape, dict[str, Any], str, int], Type]]] = {
        "record": _record, "enum": _enum, "fixed": _fixed, "array": _array, "map": _map,
    }  # fmt: skip

    def _blocks(self, entry: Check) -> Check:
        entries_max, sizes_count = self._entries_max, self._sizes_count

        def check(body: bytes, at: int) -> int:
            if not body[at]:
                return at + 1  # it is empty, as most are
            entries = 0
            while True:
                count, at = _long(body, at)
                if count == 0:
                    return at
                size = None
                if count < 0:
                    size, at = _long(body, at)
                    count = 0 if count == _LEAST else -count  # the decoders wrap around there, to no entry
                entries += count
                if entries > entries_max:
                    raise ValueError(f"a list has {entries} entries; at most {entries_max} are read")
                begin = at
                for _ in range(count):
                    at = entry(body, at)
                if sizes_count and size is not None and size != at - begin:
                    raise ValueError(f"a block of a list has {at - begin} bytes, and says {size}")

        return check

    def _begin(self, schema: dict[str, Any], namespace: str) -> str:
        given = schema.get("namespace")
        name = _full(
            _text(schema.get("name"), "the name of a type"),
            namespace if given is None or given == "" else _text(given, "a namespace"),
        )
        if name in self._named or name.rpartition(".")[2] in (*_PRIMITIVES, *self._COMPLEX):
            raise _unusable(f"there are two types {_shown(name)}")
        self._named[name] = None
        return name

    def _end(self, name: str, made: Type) -> Type:
        self._named[name] = made
        return made


def _record_check(checks: list[Check]) -> Check:
    fields = [(check is _string, check is _number, check) for check in checks]

    def check(body: bytes, at: int) -> int:
        for is_string, is_number, field in fields:
            if is_string and (twice := body[at]) < 0x80 and not twice & 1:  # most fields, at a third of the time
                at += 1 + (twice >> 1)
            elif is_number and body[at] < 0x80:
                at += 1
            else:
                at = field(body, at)
        return at

    return check


def _long(body: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends. What is beyond 64 bits is dropped, as decoders do."""
    number = body[at]
    if number < 0x80:
        return (number >> 1) ^ -(number & 1), at + 1
    end = _number(body, at)
    number = 0
    for byte in body[at:end][::-1]:
        number = number << 7 | byte & 0x7F
    number &= _WRAPPED
    return (number >> 1) ^ -(number & 1), end


def _number(body: bytes, at: int) -> int:
    last = at + _LONG_BYTES_MAX - 1
    while body[at] >= 0x80:
        if at == last:
            raise ValueError(f"a number has more than {_LONG_BYTES_MAX} bytes")
        at += 1
    return at + 1


def _string(body: bytes, at: int) -> int:
    length, at = _long(body, at)
    if length < 0:
        raise ValueError(f"a text has {length} bytes")
    return at + length


def _boolean(body: bytes, at: int) -> int:
    if body[at] > 1:
        raise ValueError(f"a boolean is {body[at]}")
    return at + 1


_PRIMITIVES = {
    "null": Type("null", lambda _, at: at, 0),
    "boolean": Type("boolean", _boolean, 1),
    "int": Type("int", _number, 1),
    "long": Type("long", _number, 1),
    "float": Type("float", lambda _, at: at + 4, 4),
    "double": Type("double", lambda _, at: at + 8, 8),
    "bytes": Type("bytes", _string, 1),
    "string": Type("string", _string, 1),
}


LOGICAL = {
    "date": "int", "time-millis": "int", "time-micros": "long", "uuid": "string",
    "timestamp-millis": "long", "timestamp-micros": "long",
    "local-timestamp-millis": "long", "local-timestamp-micros": "long",
}  # fmt: skip
DIGITS_MAX = 1_000


def _meant(found: Type, schema: dict[str, Any]) -> Type:
    """With its logical type; one that does not fit is none, says Avro."""
    logical, plain = schema.get("logicalType"), found.plain
    if logical == "decimal":
        digits, scale = schema.get("precision"), schema.get("scale", 0)
        is_fixed = isinstance(plain, dict) and plain.get("type") == "fixed"
        if type(digits) is not int or type(scale) is not int or not 0 <= scale <= digits <= DIGITS_MAX or digits == 0:
            return found
        means = {"logicalType": logical, "precision": digits, "scale": scale}
        if is_fixed:
            return found._replace(plain=plain | means)
        return found._replace(plain={"type": plain} | means) if plain == "bytes" else found
    if not isinstance(logical, str) or LOGICAL.get(logical, "") != plain:
        return found
    return found._replace(plain={"type": plain, "logicalType": logical})


def _deepest(types: list[Type]) -> int:
    return 1 + max((t.depth for t in types), default=0)


def _full(name: str, namespace: str) -> str:
    return f"{namespace}.{name}" if namespace and "." not in name else name


def _is_aliases(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(alias, str) for alias in value)


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise _unusable(f"{what} is {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return repr(value)[:60] if isinstance(value, str | int | float | None) else f"of JSON's type {type(value).__name__}"


def _unusable(why: str) -> Rejected:
    return Rejected("unknown_schema_id", why)
