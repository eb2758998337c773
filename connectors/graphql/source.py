"""Polls a GraphQL endpoint with one query, page by page; an answer with errors is not used at all. The kind `graphql`.

Invariant: what a poll gives is pages without errors, and its state is told with the last of them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated, Any, Literal, NamedTuple, Self, cast

import orjson
from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError
from yarl import URL

from connectors.documents import Document, Kind, State, once
from connectors.formats.json_rows import JsonPath, compiled
from connectors.graphql.cost import Cost
from connectors.http.client import WAIT_S_MAX, WAITS_MAX, Address, Answer, HttpConfig, Request
from connectors.http.since import Overlap
from connectors.http.source import PAGES_MAX, HttpSource
from connectors.options import Options
from stockweave.errors import Rejected, Retriable

SINCE = "{since}"
HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/graphql-response+json, application/json;q=0.9",
}


class GraphqlPages(Options):
    """`next`: a JSONPath to the cursor of the next page, `more`: to whether there is one; `variable`: of the cursor."""

    by: Literal["cursor"] = "cursor"
    next: JsonPath
    more: JsonPath
    variable: str


class SinceVariable(Overlap):
    """Asks for what changed: `variable` is when the last poll began, by the supplier's clock, less `overlap_s`.

    `text`: what the variable says, where it is more than the time, which stands in it as `{since}`.
    """

    variable: str
    text: str | None = None

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.text is not None and SINCE not in self.text:
            raise PydanticCustomError("since", "needs {since} in text, where the time belongs", {"since": SINCE})
        return self


class GraphqlConfig(HttpConfig):
    """An endpoint that is sent a query with POST."""

    kind: Literal["graphql"] = "graphql"
    url: Address
    query: Annotated[str, Field(min_length=1)]
    variables: dict[str, JsonValue] = Field(default={})
    pages: GraphqlPages | None = None
    since: SinceVariable | None = None

    @model_validator(mode="after")
    def _declares_variables(self) -> Self:
        for option in (self.pages, self.since):
            if option is not None and f"${option.variable}" not in self.query:
                raise PydanticCustomError(
                    "variable", "the query has no ${name}; declare it, and use it", {"name": option.variable}
                )
        return self


class _Page(NamedTuple):
    answer: Answer
    content: dict[str, Any]


class GraphqlSource(HttpSource[GraphqlConfig]):
    """One query."""

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        """The pages of one poll."""
        variables = self._config.variables | self._since(state)
        began_ms = self._around.clock.now_ms()
        after: State | None = None
        for number in range(PAGES_MAX):
            page = await self._ask(variables)
            after = self._after(page.answer) if after is None else after
            following = self._following(page.content, variables)
            yield Document(
                f"{began_ms:014}-{number:06}",
                page.answer.began_ms,
                self._around.clock.now_ms(),
                once(page.answer.body),
                after if following is None else None,
            )
            if following is None:
                return
            variables = following
        raise Rejected("too_many_pages", f"there are more than {PAGES_MAX} pages; mend pages")

    def _since(self, state: State) -> dict[str, JsonValue]:
        since, at_ms = self._config.since, self._known(state).get("since_ms")
        if since is None or at_ms is None:
            return {}
        written = since.written(at_ms)
        if since.text is not None:
            return {since.variable: since.text.replace(SINCE, written)}
        return {since.variable: written if since.format == "rfc3339" else int(written)}

    def _following(self, content: dict[str, Any], variables: dict[str, JsonValue]) -> dict[str, JsonValue] | None:
        """The next page's variables, if there is one."""
        pages = self._config.pages
        if pages is None:
            return None
        more = compiled(pages.more).findall(content)
        if not more or not isinstance(more[0], bool):
            raise Rejected("no_page_info", f"there is no true or false at {pages.more}; ask for it in query")
        if not more[0]:
            return None
        cursor = (compiled(pages.next).findall(content) or [None])[0]
        if cursor is None:
            raise Rejected("no_page_info", f"there are more pages, but nothing at {pages.next}; ask for it in query")
        if cursor == variables.get(pages.variable):
            raise Rejected("page_repeats", f"the page names itself as the next; use ${pages.variable} in query")
        following: dict[str, JsonValue] = {**variables, pages.variable: cast("JsonValue", cursor)}
        return following

    async def _ask(self, variables: dict[str, JsonValue]) -> _Page:
        """One page, when the supplier lets us have it."""
        body = orjson.dumps({"query": self._config.query, "variables": variables})
        for _ in range(1 + WAITS_MAX):
            answer = await self._client.send(Request(URL(self._config.url), HEADERS, body), used=(200, 400))
            content = self._content(answer)
            cost = Cost.of(content)
            errors = content.get("errors")
            if not errors:
                self._around.budget.pause(cost.next_wait_s)
                return _Page(answer, content)
            if not Cost.throttled(errors):
                raise Retriable(f"{self._config.url} answers with errors: {self._client.told(_first(errors))}")
            wait_s = cost.wait_s
            self._around.budget.pause(wait_s)
            if wait_s > WAIT_S_MAX:
                break
        raise Retriable(f"{self._config.url} wants us to wait; ask for fewer rows a page", int(wait_s + 1))

    def _content(self, answer: Answer) -> dict[str, Any]:
        try:
            content = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            content = None
        if isinstance(content, dict):
            is_whole = answer.status == 200 and isinstance(content.get("data"), dict)
            if is_whole or content.get("errors"):
                return content
        said = f"{self._config.url} answers {answer.status} with neither data nor errors"
        raise Retriable(f"{said}; is it the address of GraphQL? Else mend url")


def _first(errors: object) -> str:
    first = errors[0] if isinstance(errors, list) and errors else errors
    return str(first.get("message", "")) if isinstance(first, dict) else str(first)


KIND = Kind(GraphqlConfig, GraphqlSource)
