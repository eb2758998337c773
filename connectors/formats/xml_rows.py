"""XML of any size: one element a row, each field of it by XPath, in memory that does not grow with the document.

Invariant: every row's element is a row or is broken, and has its bytes as XML. Nothing outside the document is fetched,
and no entity of its own is expanded. Used by the kinds that read bodies and files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, cast

import pyarrow as pa
from lxml import etree
from pydantic import Field

from connectors.formats.rows import NAMED_ROWS, Broken, Names, Rows
from connectors.options import Options
from stockweave.errors import Rejected

ROWS_AT_ONCE = 2_000


class XmlConfig(Options):
    """How the document is written.

    `row`: the name of a row's element, `{namespace}name` where it has one; `namespaces`: by their prefix in paths.
    """

    format: Literal["xml"] = "xml"
    row: Annotated[str, Field(min_length=1)]
    namespaces: dict[str, str] = Field(default={})


def read(blocks: Iterable[bytes], config: XmlConfig, paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a document.

    Args:
        blocks: its bytes, in pieces of any size.
        config: which elements are rows.
        paths: XPath expressions, each from its row's element on; one that begins with a slash names what stands above
            the rows, or before the first of them.

    Raises:
        Rejected: it is not XML, or a path is no XPath.
    """
    fields = {path: field(path, config.namespaces) for path in paths}
    parser = etree.XMLPullParser(
        events=("end",), tag=config.row, resolve_entities=False, no_network=True, huge_tree=False, remove_comments=True
    )
    number = 0
    held: list[etree._Element] = []
    for block in blocks:
        try:
            parser.feed(block)
            held += _ended(parser)
        except etree.XMLSyntaxError as error:
            raise Rejected("malformed_xml", f"the document is not XML ({error}); mend it at the supplier") from None
        if len(held) >= ROWS_AT_ONCE:
            yield _rows(held, number, fields)
            number += len(held)
            _forget(held)
    try:
        parser.close()
        held += _ended(parser)
    except etree.XMLSyntaxError as error:
        raise Rejected("malformed_xml", f"the document breaks off ({error}); fetch it again") from None
    if held:
        yield _rows(held, number, fields)


def _ended(parser: etree.XMLPullParser) -> list[etree._Element]:
    """The rows that have come to their end."""
    return [cast("etree._Element", element) for _, element in parser.read_events()]


def _rows(elements: Sequence[etree._Element], first: int, fields: dict[str, etree.XPath]) -> Rows:
    texts = {path: [_text(field, element, path) for element in elements] for path, field in fields.items()}
    originals = [etree.tostring(element, with_tail=False) for element in elements]
    entities = {
        place: entity
        for place, element in enumerate(elements)
        if (entity := _entity(element, [of_path[place] for of_path in texts.values()])) is not None
    }
    broken = [
        Broken(first + place, originals[place], f"{entity} is an entity, and none is expanded; have its text sent")
        for place, entity in entities.items()
    ]
    places = [place for place in range(len(elements)) if place not in entities]
    columns = {path: pa.array([of_path[place] for place in places], pa.string()) for path, of_path in texts.items()}
    return Rows(
        columns, pa.array([first + place for place in places], pa.int64()), lambda row: originals[places[row]], broken,
        names=_names(elements),
    )  # fmt: skip


def _entity(row: etree._Element, texts: Sequence[str | None]) -> str | None:
    """One of the document's own that stands in what was found: its text is not there, and its name is none."""
    doubtful = [text for text in texts if text and "&" in text]
    if not doubtful:
        return None
    entities = (str(each.text) for each in row.iter(etree.Entity))
    return next((entity for entity in entities if any(entity in text for text in doubtful)), None)


def _names(elements: Sequence[etree._Element]) -> Names:
    """Those of a row's own elements and attributes, and not those within; of some rows, for it takes time."""
    looked = elements[:: len(elements) // NAMED_ROWS + 1]
    of_rows = ({str(child.tag) for child in row} | {"@" + str(name) for name in row.attrib} for row in looked)
    return Names(len(looked), Counter(name for names in of_rows for name in names))


def _text(field: etree.XPath, row: etree._Element, path: str) -> str | None:
    """What lies there as a text: an element's own, an attribute's, or what the path works out."""
    try:
        found: Any = field(row)
    except etree.XPathEvalError as error:
        raise _no_path(path, error) from None
    if isinstance(found, list):
        if len(found) > 1:
            raise Rejected(
                "invalid_path", f"{path!r} finds {len(found)} places in a row; name one of them, as [1]", path
            )
        if not found:
            return None
        found = found[0]
    if isinstance(found, etree._Element):
        return "".join(map(str, found.itertext()))
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, float):
        if not math.isfinite(found):
            return None
        return str(int(found)) if found == int(found) else repr(found)
    return str(found)


def _forget(held: list[etree._Element]) -> None:
    """Let go of rows, and of what groups them; what else stands before them a path may still name."""
    for element in held:
        element.clear(keep_tail=True)  # type: ignore[call-arg]  # its stubs are older
    last: etree._Element | None = held[-1]
    while last is not None and (parent := last.getparent()) is not None:
        for before in list(last.itersiblings(last.tag, preceding=True)):
            parent.remove(before)
        last = parent
    held.clear()


def field(path: str, namespaces: Mapping[str, str]) -> etree.XPath:
    """Where a field is; raises `Rejected` if that is no XPath."""
    return _compiled(path, tuple(sorted(namespaces.items())))


@lru_cache(maxsize=1_024)
def _compiled(path: str, namespaces: tuple[tuple[str, str], ...]) -> etree.XPath:
    try:
        return etree.XPath(path, namespaces=dict(namespaces), smart_strings=False)
    except (etree.XPathSyntaxError, ValueError) as error:
        raise _no_path(path, error) from None


def _no_path(path: str, error: Exception) -> Rejected:
    return Rejected("invalid_path", f"{path!r} is no XPath here ({error}); send one such as qty or @sku", path)
