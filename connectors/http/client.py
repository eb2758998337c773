"""Requests to a supplier over HTTP: within its budget, with proof of who we are, limited in time and size.

Invariant: what goes wrong is Retriable or Rejected, in words without a secret; credentials go to the origin that was
asked for, and to no other one. Used by the kinds that speak HTTP.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Annotated, NamedTuple, Self

import aiohttp
from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError
from yarl import URL

from connectors.budget import moment_s
from connectors.credentials.http import Credential, Credentials
from connectors.credentials.tls import Contexts, Tls
from connectors.documents import SourceConfig, Surroundings
from connectors.http.since import Overlap
from stockweave.errors import Rejected, Retriable

BODY_BYTES_MAX = 64 << 20
TOLD_CHARACTERS_MAX = 200  # of a supplier's own words
WAIT_S_MAX = 60.0  # within a poll; one that has to wait longer fails, and says so
WAITS_MAX = 5  # for one request
MOVES_MAX = 5
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # no header may have one
MOVED = (301, 302, 303, 307, 308)

Address = Annotated[str, StringConstraints(pattern=r"^https?://[^/?#]+")]


class HttpConfig(SourceConfig):
    """What all requests of a source have in common."""

    headers: dict[str, str] = Field(default={})
    credentials: Credentials | None = None
    tls: Tls | None = None
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    since: Overlap | None = None

    @model_validator(mode="after")
    def _is_encrypted(self) -> Self:
        for name in ("url", "wsdl"):
            if self.tls is not None and str(getattr(self, name, None)).startswith("http://"):
                raise PydanticCustomError("tls", "has tls, and {name} is without; begin it with https", {"name": name})
        return self

    @property
    def is_partial(self) -> bool:
        """Whether only what changed is asked for."""
        return self.since is not None

    def asked(self, version: int) -> str:
        """What is asked for, and for which version of the mapping: what was learnt holds for no other."""
        said = self.model_dump_json(exclude={"timeout_s", "tls"})
        return blake2b(f"{version} {said}".encode(), digest_size=16).hexdigest()


class Request(NamedTuple):
    """One request. `body`: sent with POST."""

    url: URL
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class Answer(NamedTuple):
    """What came back. `began_ms`: when it was asked for. `wait_s`: how long it wants us to wait."""

    status: int
    headers: Mapping[str, str]
    link: URL | None
    moved: URL | None
    body: bytes
    began_ms: int
    wait_s: float | None

    @property
    def as_of_ms(self) -> int:
        """When it was asked for, by the supplier's clock where that is behind ours."""
        at_s = moment_s(self.headers.get("Date", ""))
        return self.began_ms if at_s is None else min(self.began_ms, int(at_s) * 1_000)


class Client:
    """One source's way to its supplier.

    Args:
        config: of every request.
        around: the clock and the budget.
    """

    def __init__(self, config: HttpConfig, around: Surroundings) -> None:
        self._config = config
        self._around = around
        self._credential = Credential(config.credentials, around.clock, config.tls)
        self._contexts = Contexts(config.tls)
        self._session: aiohttp.ClientSession | None = None
        self._for_proof: aiohttp.ClientSession | None = None

    async def send(self, request: Request, used: Collection[int] = (200,)) -> Answer:
        """The answer, if its status is one of `used`.

        A supplier that wants us to wait is waited for, a token that it does not take is renewed once, and what has
        moved within its origin is followed.

        Raises:
            Retriable: it is away, does not know us, or wants us to wait for long.
            Rejected: its answer is too large, or is said to be elsewhere.
        """
        waits = moves = 0
        was_renewed = False
        while (answer := await self._send_once(request)).status not in used:
            must_wait = answer.status in (429, 503) and answer.wait_s is not None and answer.wait_s <= WAIT_S_MAX
            if answer.status == 401 and not was_renewed and self._credential.refused():
                was_renewed = True
            elif must_wait and waits < WAITS_MAX:
                waits += 1  # the budget waits
            elif answer.moved is not None and request.body is None and moves < MOVES_MAX:
                moves += 1
                request = request._replace(url=_followed(request.url, answer.moved))
            else:
                raise failure(request, answer)
        return answer

    def told(self, text: str, other: str = "") -> str:
        """A supplier's own words, fit for an error: short, one line, without our secrets, nor that `other` one."""
        text = text.replace(other, "***") if other else text
        line = " ".join(self._credential.hidden(text).split())
        return line if len(line) <= TOLD_CHARACTERS_MAX else f"{line[:TOLD_CHARACTERS_MAX]}..."

    async def close(self) -> None:
        """Close the connections."""
        for session in (self._session, self._for_proof):
            if session is not None:
                await session.close()

    async def _send_once(self, request: Request) -> Answer:
        async with self._around.budget.request():
            (session, for_proof), context = self._open(), self._contexts.now()
            proof = await self._credential.proof(for_proof)
            headers = {**self._config.headers, **request.headers, **proof.headers}
            for name, value in headers.items():
                if CONTROL.search(value):
                    raise Retriable(f"header {name} has a line end or control character in it; mend it, or its secret")
            began_ms = self._around.clock.now_ms()
            try:
                async with session.request(
                    "GET" if request.body is None else "POST",
                    request.url.update_query(proof.params),
                    headers=headers,
                    data=request.body,
                    allow_redirects=False,  # it would take an API key to anybody
                    ssl=context,
                ) as response:
                    body = await _limited(response)
                    link = response.links["next"]["url"] if "next" in response.links else None
                    moved = response.headers.get("Location") if response.status in MOVED else None
                    to = None if moved is None else request.url.join(URL(moved))
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                why = type(error).__name__  # its text may hold the address, and with it a key
                raise Retriable(f"{shown(request.url)} does not answer ({why}); is it up?") from None
        wait_s = self._around.budget.learn(response.status, response.headers)
        return Answer(response.status, response.headers, URL(str(link)) if link else None, to, body, began_ms, wait_s)

    def _open(self) -> tuple[aiohttp.ClientSession, aiohttp.ClientSession]:
        """For what is asked, as it comes: aiohttp would take a gzip that breaks off for whole; and for credentials."""
        if self._session is None or self._for_proof is None:
            timeout, headers = aiohttp.ClientTimeout(self._config.timeout_s), {"Accept-Encoding": "gzip, deflate"}
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers, auto_decompress=False)
            self._for_proof = aiohttp.ClientSession(timeout=timeout, headers=headers)
        return self._session, self._for_proof


def shown(url: URL) -> str:
    """An address without what may be secret in it."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


def _followed(url: URL, moved: URL) -> URL:
    if moved.origin() != url.origin():
        raise Rejected("moved", f"{shown(url)} has moved to {moved.origin()}; mend url, if that is the supplier's")
    return moved


def failure(request: Request, answer: Answer) -> Retriable:
    """What an answer's status says."""
    said = f"{shown(request.url)} answers {answer.status}"
    if answer.status in (429, 503):
        return Retriable(f"{said}: it wants us to wait", max(1, int((answer.wait_s or 0) + 1)))
    if answer.status in (401, 403):
        return Retriable(f"{said}; mend credentials")
    return Retriable(f"{said}; is it up? Else mend url")


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) > BODY_BYTES_MAX:
            raise _too_large()
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if not body or encoding in ("", "identity"):
        return bytes(body)
    return await asyncio.to_thread(_unpacked, bytes(body), encoding)


def _unpacked(body: bytes, encoding: str) -> bytes:
    """Of one member after the other; raises Retriable if it breaks off."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Retriable(f"an answer is packed as {encoding[:20]!r}, for which nobody asked; ask the supplier for gzip")
    is_bare = encoding == "deflate" and body[0] & 0xF != zlib.DEFLATED
    out = bytearray()
    while body:
        member = zlib.decompressobj(-zlib.MAX_WBITS if is_bare else zlib.MAX_WBITS | 32)  # else gzip, or zlib
        try:
            out += member.decompress(body, BODY_BYTES_MAX + 1 - len(out))
        except zlib.error:
            raise Retriable(f"an answer is said to be {encoding}, and is not; ask the supplier") from None
        if len(out) > BODY_BYTES_MAX:
            raise _too_large()
        if not member.eof:
            raise Retriable(f"an answer breaks off within its {encoding}; it is asked for again")
        body = member.unused_data.lstrip(b"\0")
    return bytes(out)


def _too_large() -> Rejected:
    return Rejected("too_large", f"an answer is larger than {BODY_BYTES_MAX} bytes; ask for pages")
