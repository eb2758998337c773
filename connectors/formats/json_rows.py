"""JSON: one document with rows somewhere in it, or one row a line; each field of a row by JSONPath (RFC 9535).

Invariant: every row is a row or is broken, and either has the bytes that it was read from. A document is read whole, so
it has an end; lines have none. Used by the kinds that read bodies and files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Annotated, Any, Literal, cast

import jsonpath
import msgspec
import orjson
import pyarrow as pa
from jsonpath.exceptions import JSONPathError
from jsonpath.segments import JSONPathChildSegment
from jsonpath.selectors import NameSelector, WildcardSelector
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from connectors.formats.rows import NAMED_ROWS, ROWS_MAX, Broken, Names, Rows
from connectors.options import Options
from stockweave.errors import Rejected

DOCUMENT_BYTES_MAX = 64 << 20
LINE_BYTES_MAX = 1 << 20
LINES_AT_ONCE = 4_096
NAMES_SHOWN_MAX = 10

_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])


def _is_path(given: object) -> object:
    if isinstance(given, str):
        compiled(given)
    return given


JsonPath = Annotated[str, BeforeValidator(_is_path)]


class DocumentConfig(Options):
    """One document. `records`: where its rows are, by JSONPath."""

    format: Literal["json"] = "json"
    records: Annotated[JsonPath, Field(min_length=1)] = "$[*]"


class LinesConfig(Options):
    """One row a line."""

    format: Literal["ndjson"] = "ndjson"


@cache
def compiled(path: str) -> jsonpath.JSONPath:
    """A JSONPath, checked; raises an error of pydantic's, so that a configuration's validator may call it."""
    try:
        found = jsonpath.compile(path)
    except JSONPathError as error:
        said = str(error).splitlines()[0]
        raise PydanticCustomError(
            "jsonpath", "is no JSONPath ({said}); send one such as $.stock", {"said": said}
        ) from None
    if not isinstance(found, jsonpath.JSONPath):
        raise PydanticCustomError("jsonpath", "is several JSONPaths in one; send one such as $.stock")
    return found


def read_document(blocks: Iterable[bytes], config: DocumentConfig, paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a document.

    Raises:
        Rejected: it is too large, or is not JSON.
    """
    held = bytearray()
    for block in blocks:
        held += block
        if len(held) > DOCUMENT_BYTES_MAX:
            detail = f"the document is larger than {DOCUMENT_BYTES_MAX} bytes; ask for pages, or for one row a line"
            raise Rejected("too_large", detail)
    body = bytes(held.removeprefix(b"\xef\xbb\xbf"))
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Rejected("malformed_json", f"the document is not JSON ({error}); mend it at the supplier") from None
    found = compiled(config.records).findall(document)
    if not found:
        _check_place(document, compiled(config.records))

    @cache
    def originals() -> list[bytes]:
        exact = _as_written(body, compiled(config.records))
        return [orjson.dumps(row) for row in found] if exact is None or len(exact) != len(found) else exact

    for first in range(0, len(found), ROWS_MAX):
        yield _rows(found[first : first + ROWS_MAX], first, paths, partial(_at, originals, first))


def _check_place(document: object, records: jsonpath.JSONPath) -> None:
    """Raise Rejected if there is no such place as the rows' at all: an empty list, or a null, offers nothing."""
    at, path = document, "$"
    for segment in records.segments:
        if not _is(segment, NameSelector):
            break
        name = cast("JSONPathChildSegment", segment).selectors[0].name  # type: ignore[attr-defined]
        if at is None:
            return
        if not isinstance(at, dict) or name not in at:
            there = ", ".join(map(repr, list(at)[:NAMES_SHOWN_MAX])) if isinstance(at, dict) else "a list or a value"
            raise Rejected("no_records", f"there is no {name!r} in {path}, but {there or 'nothing'}; mend records")
        at, path = at[name], f"{path}.{name}"
    if not isinstance(at, dict | list | None):
        raise Rejected("no_records", f"what is at {path} is no list; mend records")


def _at(originals: Callable[[], list[bytes]], first: int, place: int) -> bytes:
    return originals()[first + place]


def read_lines(blocks: Iterable[bytes], paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of lines; empty ones are passed over.

    Raises:
        Rejected: a line is too long.
    """
    number = 0
    for lines in _lines(blocks):
        found: list[object] = []
        for line in lines:
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError as error:
                found.append(_Malformed(f"the line is not JSON ({error}); mend it at the supplier"))
        yield _rows(found, number, paths, lines.__getitem__)
        number += len(lines)


class _Malformed(str):
    """What is wrong with a row, in its place."""


def _rows(found: Sequence[object], first: int, paths: Sequence[str], original: Callable[[int], bytes]) -> Rows:
    """`original`: of what was found, by its place."""
    broken, places = [], []
    for place, row in enumerate(found):
        if isinstance(row, dict):
            places.append(place)
        else:
            detail = str(row) if isinstance(row, _Malformed) else "the row is not an object; mend where records are"
            broken.append(Broken(first + place, original(place), detail))
    columns = {
        path: pa.array([_text(find(found[place])) for place in places], pa.string())
        for path, find in ((path, finder(path)) for path in paths)
    }
    numbers = pa.array([first + place for place in places], pa.int64())
    return Rows(columns, numbers, lambda row: original(places[row]), broken, names=_names(found, places))


def _names(found: Sequence[object], places: Sequence[int]) -> Names:
    """Those that the objects themselves have, and not those within; of some of them, for it takes time."""
    looked = [cast("dict[str, object]", found[place]) for place in places[:: len(places) // NAMED_ROWS + 1]]
    counts = Counter(name for row in looked for name, value in row.items() if value is not None)
    return Names(len(looked), {f"$.{name}": count for name, count in counts.items()})


ABSENT = object()
"""What `finder` gives where there is no such field; one that is null is there."""


def _text(found: object) -> str | None:
    """As a text: a string as it is, null as an empty one, anything else as JSON has it; None if it is not there."""
    if found is ABSENT:
        return None
    if found is None:
        return ""
    return found if isinstance(found, str) else orjson.dumps(found).decode()


@cache
def finder(path: str) -> Callable[[object], object]:
    """What finds a field in a row, `ABSENT` if it is not there; raises as `field`. Names are followed by themselves."""
    compiled_ = field(path)
    if not all(_is(segment, NameSelector) for segment in compiled_.segments):
        return lambda row: next(iter(compiled_.findall(cast("Any", row))), ABSENT)
    names = [cast("Any", segment).selectors[0].name for segment in compiled_.segments]

    def walk(row: Any) -> object:  # noqa: ANN401 - of JSON
        for name in names:
            if not isinstance(row, dict):
                return ABSENT
            row = row.get(name, ABSENT)
        return cast("object", row)

    return walk


@cache
def field(path: str) -> jsonpath.JSONPath:
    """Where a field is; raises `Rejected` if that is no JSONPath, or may be several places."""
    try:
        found = compiled(path)
    except PydanticCustomError as error:
        raise Rejected("invalid_path", f"{path!r} {error.message()}", path) from None
    if not found.singular_query():
        raise Rejected("invalid_path", f"{path!r} may find several; send one that names one place, as $.stock[0]", path)
    return found


def _lines(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    held, found, is_first = b"", [], True
    for block in blocks:
        data = held + block
        if is_first and data:
            data, is_first = data.removeprefix(b"\xef\xbb\xbf"), False
        *whole, held = data.split(b"\n")
        if len(held) > LINE_BYTES_MAX:
            raise Rejected(
                "line_too_long", f"a line is longer than {LINE_BYTES_MAX} bytes; end each row with a line feed"
            )
        found += [line for line in whole if line and not line.isspace()]
        if len(found) >= LINES_AT_ONCE:
            yield found
            found = []
    if held and not held.isspace():
        found.append(held)
    if found:
        yield found


def _as_written(body: bytes, records: jsonpath.JSONPath) -> list[bytes] | None:
    """The rows' own bytes, where they are the entries of one array that names lead to."""
    *names, last = records.segments
    if not _is(last, WildcardSelector) or not all(_is(name, NameSelector) for name in names):
        return None
    raw: bytes | msgspec.Raw = body
    try:
        for name in names:
            held: Mapping[str, msgspec.Raw] = _raw_object.decode(raw)
            raw = held[cast("JSONPathChildSegment", name).selectors[0].name]  # type: ignore[attr-defined]
        return [bytes(one) for one in _raw_array.decode(raw)]
    except (msgspec.DecodeError, KeyError):
        return None  # not of that shape: rows of an object's values


def _is(segment: object, selector: type) -> bool:
    return (
        isinstance(segment, JSONPathChildSegment)
        and len(segment.selectors) == 1
        and isinstance(segment.selectors[0], selector)
    )
