"""Polls an HTTP address: page by page, only what changed where the supplier can tell. The kind `rest`."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Annotated, Literal, NamedTuple

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from yarl import URL

from connectors.credentials.http import Credential, Credentials
from connectors.documents import Document, Kind, SourceConfig, State, Surroundings
from connectors.rest.pages import Pages, Turn
from stockweave.errors import Rejected, Retriable

BODY_BYTES_MAX = 64 << 20
PAGES_MAX = 100_000  # of one poll: a supplier that turns in a circle does not keep us for ever


class Since(BaseModel):
    """Asks for what changed: `parameter` is when the last poll began, by the supplier's clock, less `overlap_s`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    parameter: str
    format: Literal["rfc3339", "unix", "unix_ms"] = "rfc3339"
    overlap_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 300.0


class RestConfig(SourceConfig):
    """An address that is asked with GET."""

    kind: Literal["rest"] = "rest"
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^/?#]+")]
    params: dict[str, str] = Field(default={})
    headers: dict[str, str] = Field(default={})
    pages: Pages | None = None
    since: Since | None = None
    credentials: Credentials | None = None
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0


class Answer(NamedTuple):
    """One page. `began_ms`: when it was asked for."""

    status: int
    headers: dict[str, str]
    link: URL | None
    body: bytes
    began_ms: int


class RestSource:
    """One address."""

    def __init__(self, config: RestConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._credential = Credential(config.credentials, around.clock)
        self._session: aiohttp.ClientSession | None = None

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        """The pages of one poll; none if the supplier says that nothing changed."""
        turn = Turn(self._config.pages, URL(self._config.url), self._config.params | self._since(state))
        began_ms = self._around.clock.now_ms()
        is_same = self._config.pages is None and state.get("version") == self._around.version
        validators = {name: state[key] for name, key in _VALIDATORS.items() if is_same and key in state}
        after: State | None = None
        before = b""
        for number in range(PAGES_MAX):
            answer = await self._get(turn.url, validators if number == 0 else {})
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
                _once(answer.body),
                after if is_last else None,
            )
            yield document
            if not turn.has_next(document.rows, told):
                if not is_last:  # only its rows told
                    yield Document(f"{began_ms:014}-end", answer.began_ms, document.received_at, None, after)
                return
        raise Rejected("too_many_pages", f"there are more than {PAGES_MAX} pages; mend pages")

    async def news(self) -> None:
        """Nobody tells."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _since(self, state: State) -> dict[str, str]:
        since, at_ms = self._config.since, state.get("since_ms")
        if since is None or at_ms is None:
            return {}
        at_ms = max(0, at_ms - int(since.overlap_s * 1_000))
        if since.format == "rfc3339":
            said = datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        else:
            said = str(at_ms if since.format == "unix_ms" else at_ms // 1_000)
        return {since.parameter: said}

    def _after(self, first: Answer) -> State:
        """What the first page of a poll says of the next poll."""
        told = {key: first.headers[name] for name, key in _VALIDATED_BY.items() if name in first.headers}
        if self._config.since is None:
            return told | {"version": self._around.version}
        at = email.utils.parsedate_tz(first.headers.get("Date", ""))
        at_ms = first.began_ms if at is None else min(first.began_ms, email.utils.mktime_tz(at) * 1_000)
        return {"since_ms": at_ms}

    async def _get(self, url: URL, validators: dict[str, str]) -> Answer:
        answer = await self._get_once(url, validators)
        if answer.status == 401 and self._credential.refused():
            answer = await self._get_once(url, validators)
        if answer.status in (200, 304):
            return answer
        said = f"{self._config.url} answers {answer.status}"
        if answer.status in (429, 503):
            raise Retriable(f"{said}: it wants us to wait", max(1, int(answer.headers.get("wait_s", "1"))))
        if answer.status in (401, 403):
            raise Retriable(f"{said}; mend credentials")
        raise Retriable(f"{said}; is it up? Else mend url")

    async def _get_once(self, url: URL, validators: dict[str, str]) -> Answer:
        async with self._around.budget.request():
            session = self._open()
            proof = await self._credential.proof(session)
            began_ms = self._around.clock.now_ms()
            try:
                async with session.get(
                    url.update_query(proof.params), headers=self._config.headers | proof.headers | validators
                ) as response:
                    body = await _limited(response)
                    headers = {name: response.headers[name] for name in _KEPT if name in response.headers}
                    link = response.links["next"]["url"] if "next" in response.links else None
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                why = type(error).__name__  # its text may hold the address, and with it a key
                raise Retriable(f"{self._config.url} does not answer ({why}); is it up?") from None
        wait_s = self._around.budget.learn(response.status, response.headers)
        if wait_s is not None:
            headers["wait_s"] = str(int(wait_s + 1))
        return Answer(response.status, headers, URL(str(link)) if link else None, body, began_ms)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(self._config.timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, headers={"Accept-Encoding": "gzip, deflate"})
        return self._session


_VALIDATED_BY = {"ETag": "etag", "Last-Modified": "last_modified"}
_VALIDATORS = {"If-None-Match": "etag", "If-Modified-Since": "last_modified"}
_KEPT = ("ETag", "Last-Modified", "Date")


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) > BODY_BYTES_MAX:
            raise Rejected("too_large", f"an answer is larger than {BODY_BYTES_MAX} bytes; ask for pages")
    return bytes(body)


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


KIND = Kind(RestConfig, RestSource)
