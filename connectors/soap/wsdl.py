"""One operation of a WSDL: loaded once, then made into requests by zeep, which sends none itself.

Invariant: nothing is read but the WSDL and what it imports from beside it; no DTD, no entity, nobody else's address.
Called by `source`; loading blocks, and so belongs into a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import zeep
from lxml import etree
from yarl import URL
from zeep.exceptions import Error as ZeepError
from zeep.wsdl.bindings.soap import SoapBinding
from zeep.wsse.username import UsernameToken

from connectors.http.client import shown
from stockweave.errors import Rejected, Retriable

SETTINGS = {"forbid_dtd": True, "forbid_entities": True, "xml_huge_tree": False, "raw_response": True}
BROKEN = (ZeepError, etree.LxmlError, LookupError, ValueError, TypeError, AttributeError, NotImplementedError)
"""What zeep raises on what it cannot use."""


class Wanted(NamedTuple):
    """An operation, and where it is: `service` and `port` only where its name is not enough."""

    operation: str
    service: str | None
    port: str | None


class Call(NamedTuple):
    """A request, ready to be sent."""

    address: str
    headers: dict[str, str]
    body: bytes


class Token(NamedTuple):
    """A UsernameToken (WS-Security 1.1). `is_digest`: of the password, and not its text."""

    user: str
    password: str
    is_digest: bool


class Operation:
    """One operation.

    Args:
        wsdl: a path or an address.
        wanted: which of its operations.
        fetch: gets an address of the WSDL's own origin, from the thread that loads.

    Raises:
        Rejected: the WSDL cannot be used, or has no such operation.
        Retriable: it cannot be read.
    """

    def __init__(self, wsdl: str, wanted: Wanted, fetch: Callable[[str], bytes]) -> None:
        self._wsdl = wsdl
        self._wanted = wanted
        settings = zeep.Settings(**SETTINGS)
        try:
            transport = _Transport(wsdl, fetch)
            self._zeep = zeep.Client(wsdl, transport=transport, settings=settings)  # type: ignore[no-untyped-call]
            self._send = self._found()
        except BROKEN as error:
            raise Rejected("invalid_wsdl", f"{_named(wsdl)} is no WSDL that can be used ({_said(error)})") from None

    def call(self, arguments: Mapping[str, Any], token: Token | None) -> Call:
        """The request with these arguments, and the token in its header.

        Raises:
            Rejected: they are not what the operation takes.
        """
        if token is not None:
            self._zeep.wsse = UsernameToken(  # type: ignore[no-untyped-call]
                token.user, token.password, use_digest=token.is_digest
            )
        try:
            call = self._send(**arguments)
        except BROKEN as error:
            said = f"arguments do not fit {self._wanted.operation} ({_said(error)}); mend arguments"
            raise Rejected("invalid_arguments", said) from None
        finally:
            self._zeep.wsse = None
        if not isinstance(call, Call):
            raise Rejected("invalid_wsdl", f"{_named(self._wsdl)} does not say how {self._wanted.operation} is sent")
        return call

    def _found(self) -> Callable[..., Any]:
        wanted = self._wanted
        there = []
        for service in self._zeep.wsdl.services.values():
            for port in service.ports.values():
                if not isinstance(port.binding, SoapBinding):
                    continue
                names = sorted(port.binding.all())  # type: ignore[no-untyped-call]
                there += [f"{service.name}/{port.name}/{name}" for name in names]
                is_meant = wanted.service in (None, service.name) and wanted.port in (None, port.name)
                if is_meant and wanted.operation in names:
                    found: Callable[..., Any] = self._zeep.bind(service.name, port.name)[wanted.operation]
                    return found
        said = (
            f"{_named(self._wsdl)} has no such operation; it has {', '.join(there) or 'none'} (service/port/operation)"
        )
        raise Rejected("no_operation", said)


class _Transport:
    """What zeep asks for documents, and gives envelopes to."""

    def __init__(self, wsdl: str, fetch: Callable[[str], bytes]) -> None:
        self._wsdl = wsdl
        self._fetch = fetch

    def load(self, place: str) -> bytes:
        """The WSDL, or what it imports."""
        if is_address(self._wsdl):
            if is_address(place) and URL(place).origin() == URL(self._wsdl).origin():
                return self._fetch(place)
        elif not is_address(place):
            file = Path(place).resolve()
            if file.is_relative_to(Path(self._wsdl).resolve().parent):
                return _read(file)
        said = f"{_named(self._wsdl)} imports {_named(place)}, which is not beside it; save both into one folder"
        raise Rejected("wsdl_elsewhere", f"{said}, and mend the import")

    def post_xml(self, address: str | None, envelope: etree._Element, headers: Mapping[str, str]) -> Call:
        """The call; it is for others to send it."""
        body = etree.tostring(envelope, xml_declaration=True, encoding="utf-8")
        return Call(address or "", dict(headers), body)


def is_address(wsdl: str) -> bool:
    """Whether it is one, and no path."""
    return wsdl.startswith(("http://", "https://"))


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise Retriable(f"{file} cannot be read ({error.strerror}); put it there, or mend wsdl") from None


def _named(place: str) -> str:
    return shown(URL(place)) if is_address(place) else place


def _said(error: Exception) -> str:
    """In zeep's words where they are meant to be read."""
    said = " ".join(str(error).split())[:200]
    return said if isinstance(error, ZeepError | TypeError | ValueError) and said else type(error).__name__
