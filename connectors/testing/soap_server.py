"""A supplier that tells its stock by SOAP 1.1 and 1.2: a WSDL that imports its types, and one operation, `GetStock`.

Invariant: an answer without a Fault has all rows that were asked for. For tests of configurations, and ours.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from aiohttp import web
from lxml import etree

from connectors.testing.faults import AT_HAND, Fault, Faults, Served

SOAP_11 = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_12 = "http://www.w3.org/2003/05/soap-envelope"
STOCK = "urn:example:stock"
WSSE = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
WSU = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd"

TYPES = """<?xml version="1.0"?>
<xsd:schema xmlns:xsd="http://www.w3.org/2001/XMLSchema" targetNamespace="urn:example:stock"
    elementFormDefault="qualified">
  <xsd:element name="GetStock"><xsd:complexType><xsd:sequence>
    <xsd:element name="warehouse" type="xsd:string"/>
    <xsd:element name="changedSince" type="xsd:dateTime" minOccurs="0"/>
  </xsd:sequence></xsd:complexType></xsd:element>
  <xsd:element name="GetStockResponse"><xsd:complexType><xsd:sequence>
    <xsd:element name="item" minOccurs="0" maxOccurs="unbounded"><xsd:complexType><xsd:sequence>
      <xsd:element name="code" type="xsd:string"/><xsd:element name="stock" type="xsd:int"/>
    </xsd:sequence></xsd:complexType></xsd:element>
  </xsd:sequence></xsd:complexType></xsd:element>
</xsd:schema>
"""
WSDL = """<?xml version="1.0"?>{doctype}
<definitions xmlns="http://schemas.xmlsoap.org/wsdl/" xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/"
    xmlns:soap12="http://schemas.xmlsoap.org/wsdl/soap12/" xmlns:xsd="http://www.w3.org/2001/XMLSchema"
    xmlns:tns="urn:example:stock" targetNamespace="urn:example:stock">
  <types><xsd:schema>
    <xsd:import namespace="urn:example:stock" schemaLocation="{types}"/>
  </xsd:schema></types>
  <message name="Asked"><part name="parameters" element="tns:GetStock"/></message>
  <message name="Answered"><part name="parameters" element="tns:GetStockResponse"/></message>
  <portType name="Stock"><operation name="GetStock">
    <input message="tns:Asked"/><output message="tns:Answered"/>
  </operation></portType>
  <binding name="Stock11" type="tns:Stock">
    <soap:binding transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="GetStock"><soap:operation soapAction="urn:example:stock:get"/>
      <input><soap:body use="literal"/></input><output><soap:body use="literal"/></output></operation>
  </binding>
  <binding name="Stock12" type="tns:Stock">
    <soap12:binding transport="http://schemas.xmlsoap.org/soap/http"/>
    <operation name="GetStock"><soap12:operation soapAction="urn:example:stock:get"/>
      <input><soap12:body use="literal"/></input><output><soap12:body use="literal"/></output></operation>
  </binding>
  <service name="Stock">
    <port name="Stock11" binding="tns:Stock11"><soap:address location="{address}"/></port>
    <port name="Stock12" binding="tns:Stock12"><soap12:address location="{address}"/></port>
  </service>
</definitions>
"""

Row = dict[str, Any]


class SoapSupplier(Served):
    """A supplier with a WSDL at `/stock.wsdl`. A row is `{code, stock}`; `warehouse`, `changed` where they matter.

    Args:
        rows: its stock; may be changed meanwhile.
        faults: what goes wrong; `refused` is a Fault of SOAP.
        user: and password that a UsernameToken has to have; None: nobody asks.
    """

    def __init__(self, rows: list[Row], faults: Faults | None = None, user: tuple[str, str] | None = None) -> None:
        faults = faults or Faults()
        app = web.Application(middlewares=[faults.middleware])
        app.router.add_get("/stock.wsdl", self._wsdl)
        app.router.add_get("/stock.xsd", self._types)
        app.router.add_post("/stock", self._answer)
        app.router.add_post("/page", self._page)
        super().__init__(app, faults)
        self.rows = rows
        self.user = user
        self.message = "the warehouse is closed"
        """Of the Fault that `refused` tells."""
        self.doctype = ""
        """Of the WSDL."""
        self.types = "stock.xsd"
        """Where the WSDL says that its types are."""
        self.elsewhere = ""
        """If set, the address at which the WSDL says that the service is."""

    @property
    def wsdl(self) -> str:
        """Its address."""
        return f"{self.origin}/stock.wsdl"

    def description(self) -> str:
        """The WSDL itself."""
        address = self.elsewhere or f"{self.origin}/stock"
        return WSDL.format(doctype=self.doctype, types=self.types, address=address)

    async def _wsdl(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.description(), content_type="text/xml")

    async def _page(self, _request: web.Request) -> web.Response:
        """What a proxy on the way may say."""
        return web.Response(text="<html><body>Log in</body></html>", content_type="text/html")

    async def _types(self, _request: web.Request) -> web.Response:
        return web.Response(text=TYPES, content_type="text/xml")

    async def _answer(self, request: web.Request) -> web.Response:
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        asked = etree.fromstring(await request.read(), parser)
        namespace = str(etree.QName(asked).namespace)
        if namespace == SOAP_11 and request.headers.get("SOAPAction") != '"urn:example:stock:get"':
            return _envelope(namespace, _fault(namespace, "no such action"), 500)
        if self.user is not None and not _is_known(asked, *self.user):
            said = asked.findtext(f".//{{{WSSE}}}Password")
            return _envelope(namespace, _fault(namespace, f"unknown {said}"), 500)
        if AT_HAND.get() == Fault.REFUSED:
            return _envelope(namespace, _fault(namespace, self.message), 500)
        warehouse = asked.findtext(f".//{{{STOCK}}}warehouse")
        since = asked.findtext(f".//{{{STOCK}}}changedSince") or ""
        items = [
            f"<s:item><s:code>{row['code']}</s:code><s:stock>{row['stock']}</s:stock></s:item>"
            for row in self.rows
            if row.get("warehouse", warehouse) == warehouse and row.get("changed", "") >= since
        ]
        return _envelope(namespace, f'<s:GetStockResponse xmlns:s="{STOCK}">{"".join(items)}</s:GetStockResponse>')


def _envelope(namespace: str, content: str, status: int = 200) -> web.Response:
    text = f'<?xml version="1.0"?><e:Envelope xmlns:e="{namespace}"><e:Body>{content}</e:Body></e:Envelope>'
    kind = "text/xml" if namespace == SOAP_11 else "application/soap+xml"
    return web.Response(text=text, status=status, content_type=kind)


def _fault(namespace: str, said: str) -> str:
    if namespace == SOAP_11:
        return f"<e:Fault><faultcode>e:Server</faultcode><faultstring>{said}</faultstring></e:Fault>"
    code = "<e:Code><e:Value>e:Receiver</e:Value></e:Code>"
    return f'<e:Fault>{code}<e:Reason><e:Text xml:lang="en">{said}</e:Text></e:Reason></e:Fault>'


def _is_known(asked: etree._Element, user: str, password: str) -> bool:
    token = asked.find(f".//{{{WSSE}}}UsernameToken")
    if token is None or token.findtext(f"{{{WSSE}}}Username") != user:
        return False
    nonce, created = token.findtext(f"{{{WSSE}}}Nonce"), token.findtext(f"{{{WSU}}}Created")
    expected = password
    if nonce is not None and created is not None:
        digested = base64.b64decode(nonce) + created.encode() + password.encode()
        expected = base64.b64encode(hashlib.sha1(digested).digest()).decode()  # noqa: S324 - WS-Security says so
    return token.findtext(f"{{{WSSE}}}Password") == expected
