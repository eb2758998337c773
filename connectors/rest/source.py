"""Polls an HTTP address: page by page, only what changed where the supplier can tell. The kind `rest`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from hashlib import blake2b
from typing import Literal

from pydantic import Field
from yarl import URL

from connectors.documents import Document, Kind, State, once
from connectors.http.client import Address, Answer, HttpConfig, Request
from connectors.http.since import Overlap
from connectors.http.source import PAGES_MAX, HttpSource
from connectors.rest.pages import Pages, Turn
from stockweave.errors import Rejected


class Since(Overlap):
    """Asks for what changed: `parameter` is when the last poll began, by the supplier's clock, less `overlap_s`."""

    parameter: str


class RestConfig(HttpConfig):
    """An address that is asked with GET."""

    kind: Literal["rest"] = "rest"
    url: Address
    params: dict[str, str] = Field(default={})
    pages: Pages | None = None
    since: Since | None = None


class RestSource(HttpSource[RestConfig]):
    """One address."""

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        """The pages of one poll; none if the supplier says that nothing changed."""
        state = self._known(state)
        turn = Turn(self._config.pages, URL(self._config.url), self._config.params | self._since(state))
        began_ms = self._around.clock.now_ms()
        validators = {name: state[key] for name, key in _VALIDATORS.items() if key in state}
        after: State | None = None
        before = b""
        for number in range(PAGES_MAX):
            request = Request(turn.url, validators if number == 0 else {})
            answer = await self._client.send(request, used=(200, 304) if validators else (200,))
            if answer.status == 304:
                return
            after = self._after(answer) if after is None else after
            seen = blake2b(answer.body, digest_size=16).digest()
            if seen == before and answer.body:
                raise Rejected("page_repeats", f"page {number + 1} is the one before; mend pages, or leave them out")
            before, told = seen, turn.next_by(answer.body, answer.link)
            is_last = told is None and not turn.counts
            document = Document(
                f"{began_ms:014}-{number:06}",
                answer.began_ms,
                self._around.clock.now_ms(),
                once(answer.body),
                after if is_last else None,
            )
            yield document
            if not turn.has_next(document.rows, told):
                if not is_last:  # only its rows told
                    yield Document(f"{began_ms:014}-end", answer.began_ms, document.received_at, None, after)
                return
        raise Rejected("too_many_pages", f"there are more than {PAGES_MAX} pages; mend pages")

    def _since(self, state: State) -> dict[str, str]:
        since, at_ms = self._config.since, state.get("since_ms")
        return {} if since is None or at_ms is None else {since.parameter: since.written(at_ms)}

    def _after(self, first: Answer) -> State:
        """As ever; without `since`, whether the one page that there is has changed."""
        if self._config.since is not None:
            return super()._after(first)
        if self._config.pages is not None:
            return {}  # that the first is the same says nothing of the others
        told = {key: first.headers[name] for name, key in _VALIDATED_BY.items() if name in first.headers}
        return {"asked": self._asked} | told


_VALIDATED_BY = {"ETag": "etag", "Last-Modified": "last_modified"}
_VALIDATORS = {"If-None-Match": "etag", "If-Modified-Since": "last_modified"}


KIND = Kind(RestConfig, RestSource)
