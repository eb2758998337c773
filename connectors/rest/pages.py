"""How a supplier's answers are divided into pages, and which request brings the next one. Used by `source`."""

from __future__ import annotations

from typing import Annotated, Literal

import jsonpath
import orjson
from pydantic import Field
from yarl import URL

from connectors.formats.json_rows import JsonPath, compiled
from connectors.options import Options
from stockweave.errors import Rejected


class ByNumber(Options):
    """`parameter`: of the page's number; ends with a page that has no rows, or fewer than `size`.

    `size_parameter`: asks for so many rows a page.
    """

    by: Literal["number"]
    parameter: str = "page"
    first: int = 1
    size: Annotated[int, Field(ge=1)] | None = None
    size_parameter: str | None = None


class ByOffset(Options):
    """`parameter`: of how many rows stand before the page; ends with a page that has no rows, or fewer than `size`."""

    by: Literal["offset"]
    parameter: str = "offset"
    size: Annotated[int, Field(ge=1)]
    size_parameter: str | None = "limit"


class ByCursor(Options):
    """`next`: a JSONPath to what brings the next page: the value of `parameter`, or an address where there is none."""

    by: Literal["cursor"]
    next: JsonPath
    parameter: str | None = None


class ByLink(Options):
    """By the header `Link` with `rel="next"` (RFC 8288)."""

    by: Literal["link"]


Pages = Annotated[ByNumber | ByOffset | ByCursor | ByLink, Field(discriminator="by")]


class Turn:
    """Turns the pages of one poll.

    Args:
        pages: how; None: there is but one.
        url: of the first page.
        params: of every page.
    """

    def __init__(self, pages: Pages | None, url: URL, params: dict[str, str]) -> None:
        self._pages = pages
        self._first = url
        self._rows = 0
        self._number = 0
        self.url = url.update_query(params | self._counted())
        """Of the page at hand."""

    def _counted(self) -> dict[str, str]:
        """What the address says of the page."""
        match self._pages:
            case ByNumber(parameter=parameter, first=first, size=size, size_parameter=named):
                asked = {named: str(size)} if named and size else {}
                return {parameter: str(first + self._number)} | asked
            case ByOffset(parameter=parameter, size=size, size_parameter=named):
                return {parameter: str(self._rows)} | ({named: str(size)} if named else {})
            case _:
                return {}

    def next_by(self, body: bytes, link: URL | None) -> URL | None:
        """The next page, where this one says so itself.

        Raises:
            Rejected: it says so in a way that cannot be followed.
        """
        match self._pages:
            case ByLink():
                return None if link is None else self._checked(self.url.join(link))
            case ByCursor(next=path, parameter=parameter):
                cursor = _found(compiled(path), body)
                if cursor is None:
                    return None
                if parameter is None:
                    return self._checked(self.url.join(URL(cursor)))
                return self.url.update_query({parameter: cursor})
            case _:
                return None

    def has_next(self, rows: int, told: URL | None) -> bool:
        """Turn the page, if there is another. `rows`: of this one; `told`: what `next_by` said of it."""
        self._rows += rows
        self._number += 1
        match self._pages:
            case ByNumber(size=size) | ByOffset(size=size):
                told = self.url.update_query(self._counted()) if rows >= (size or 1) else None
            case _:
                pass
        self.url = told or self.url
        return told is not None

    @property
    def counts(self) -> bool:
        """Whether only a page's rows tell whether there is another one."""
        return isinstance(self._pages, ByNumber | ByOffset)

    def _checked(self, url: URL) -> URL:
        """Credentials go to nobody else."""
        if url.origin() != self._first.origin():
            raise Rejected("next_page_elsewhere", f"the next page is said to be at {url.origin()}; mend pages")
        return url


def _found(path: jsonpath.JSONPath, body: bytes) -> str | None:
    try:
        found = path.findall(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise Rejected("malformed_json", f"the page is not JSON ({error}); mend it at the supplier") from None
    if not found or found[0] in (None, "", False):
        return None
    return found[0] if isinstance(found[0], str) else orjson.dumps(found[0]).decode()
