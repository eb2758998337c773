"""Calls one operation of a SOAP service at each poll; the answer is a document of the format `xml`. The kind `soap`.

Invariant: an answer with a Fault is not used at all. Credentials go to the origin that the configuration names.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Literal

from pydantic import Field, JsonValue
from yarl import URL

from connectors.credentials.secret import Secret
from connectors.documents import Document, Kind, State, Surroundings, once
from connectors.http.client import Address, Answer, HttpConfig, Request, failure, shown
from connectors.http.since import Overlap
from connectors.http.source import HttpSource
from connectors.options import Options
from connectors.soap.envelope import NoEnvelopeError, fault
from connectors.soap.wsdl import Operation, Token, Wanted, is_address
from stockweave.errors import Rejected, Retriable


class WsSecurity(Options):
    """A UsernameToken (WS-Security 1.1). `digest`: of the password, and not its text."""

    user: str
    password: Secret
    digest: bool = False


class SinceArgument(Overlap):
    """Asks for what changed: `argument` is when the last poll began, by the supplier's clock, less `overlap_s`."""

    argument: str


class SoapConfig(HttpConfig):
    """An operation of a WSDL. `url`: of the service, where it is not the one that the WSDL says."""

    kind: Literal["soap"] = "soap"
    wsdl: Annotated[str, Field(min_length=1)]
    operation: Annotated[str, Field(min_length=1)]
    service: str | None = None
    port: str | None = None
    url: Address | None = None
    arguments: dict[str, JsonValue] = Field(default={})
    ws_security: WsSecurity | None = None
    since: SinceArgument | None = None


class SoapSource(HttpSource[SoapConfig]):
    """One operation."""

    def __init__(self, config: SoapConfig, around: Surroundings) -> None:
        super().__init__(config, around)
        self._operation: Operation | None = None

    async def read(self, state: State) -> AsyncGenerator[Document, None]:
        """The answer of one call."""
        if self._operation is None:
            self._operation = await self._loaded()
        began_ms = self._around.clock.now_ms()
        answer = await self._answer(self._operation, self._config.arguments | self._since(state))
        yield Document(
            f"{began_ms:014}",
            answer.began_ms,
            self._around.clock.now_ms(),
            once(answer.body),
            self._after(answer),
        )

    def _since(self, state: State) -> dict[str, JsonValue]:
        since, at_ms = self._config.since, self._known(state).get("since_ms")
        if since is None or at_ms is None:
            return {}
        written = since.written(at_ms)
        return {since.argument: written if since.format == "rfc3339" else int(written)}

    async def _loaded(self) -> Operation:
        """In a thread of its own: it waits for a supplier, which is no other's matter."""
        loop = asyncio.get_running_loop()
        under_way: list[concurrent.futures.Future[bytes]] = []
        is_over = threading.Event()

        def fetch(address: str) -> bytes:
            under_way.append(asyncio.run_coroutine_threadsafe(self._fetch(address), loop))
            if is_over.is_set():
                under_way[-1].cancel()
            return under_way[-1].result()

        config, thread = self._config, ThreadPoolExecutor(1, "wsdl")
        wanted = Wanted(config.operation, config.service, config.port)
        try:
            return await loop.run_in_executor(thread, Operation, config.wsdl, wanted, fetch)
        finally:
            is_over.set()
            for each in under_way:
                each.cancel()  # where nobody waits any more
            thread.shutdown(wait=False)

    async def _fetch(self, address: str) -> bytes:
        return (await self._client.send(Request(URL(address)))).body

    async def _answer(self, operation: Operation, arguments: dict[str, JsonValue]) -> Answer:
        security = self._config.ws_security
        token = None if security is None else Token(security.user, security.password.read(), security.digest)
        call = operation.call(arguments, token)
        url = self._url(call.address)
        request = Request(url, call.headers, call.body)
        answer = await self._client.send(request, used=(200, 400, 500))
        try:
            said = fault(answer.body)
        except NoEnvelopeError:
            if answer.status != 200:
                raise failure(request, answer) from None
            raise Retriable(f"{shown(url)} does not answer with an envelope of SOAP; mend wsdl or url") from None
        if said is not None:
            raise Retriable(
                f"{shown(url)} answers with a fault: {self._client.told(said, token.password if token else '')}"
            )
        if answer.status != 200:
            raise failure(request, answer)
        return answer

    def _url(self, told: str) -> URL:
        """Of the service: credentials go to nobody else on a WSDL's word."""
        if self._config.url is not None:
            return URL(self._config.url)
        if not is_address(told):
            raise Rejected("no_address", "the WSDL has no address of the service; set url to it")
        url = URL(told)
        if is_address(self._config.wsdl) and url.origin() != URL(self._config.wsdl).origin():
            said = f"the WSDL has the service at {url.origin()}; set url to its address, if it is the supplier's"
            raise Rejected("address_elsewhere", said)
        return url


KIND = Kind(SoapConfig, SoapSource)
