"""Whether an answer is one of SOAP, and what went wrong if it says so; of a large one only the beginning is read.

Called by `source`; the rows are for the format `xml`.
"""

from __future__ import annotations

from typing import cast

from lxml import etree

NAMESPACES = ("http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope")
BLOCK_BYTES = 1 << 16


class NoEnvelopeError(ValueError):
    """It is something else."""


def fault(body: bytes) -> str | None:
    """The text of a Fault; None where there is none.

    Raises:
        NoEnvelopeError: it is no answer of SOAP.
    """
    parser = etree.XMLPullParser(events=("start",), resolve_entities=False, no_network=True, huge_tree=False)
    root: etree._Element | None = None
    try:
        for first in range(0, len(body), BLOCK_BYTES):
            parser.feed(body[first : first + BLOCK_BYTES])
            for _, found in parser.read_events():
                element = cast("etree._Element", found)
                root = element if root is None else root
                if root.tag not in [f"{{{namespace}}}Envelope" for namespace in NAMESPACES]:
                    raise NoEnvelopeError
                above = element.getparent()
                if above is not None and above.tag in [f"{{{namespace}}}Body" for namespace in NAMESPACES]:
                    return _text(body) if etree.QName(element).localname == "Fault" else None
    except etree.XMLSyntaxError as error:
        raise NoEnvelopeError from error
    if root is None:
        raise NoEnvelopeError
    return None


def _text(body: bytes) -> str:
    """`faultstring` of SOAP 1.1, or the first text of `Reason` of SOAP 1.2."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, recover=True)
    whole = etree.fromstring(body, parser)
    for path in ("//*[local-name()='Fault']/faultstring", "//*[local-name()='Reason']/*[local-name()='Text']"):
        found = whole.xpath(path)
        if isinstance(found, list) and found and isinstance(found[0], etree._Element):
            return "".join(map(str, found[0].itertext()))
    return "without a word"
