"""Another parser of EDI, by its own grammars of the standards: what it finds in the samples, to compare with.

It knows INVRPT by the UN's directories, where the quantities of packages cannot be told from others: they are taken out
of its grammars, and no sample has any.
"""

from __future__ import annotations

import codecs
import importlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

CHARSETS = {"unoa": "latin-1", "unob": "latin-1", "unoc": "latin-1", "unoy": "utf-8"}
DIRECTORIES = ("D96A", "D97A", "D01B")
PACKAGE = "edi_parser.grammars.edifact"

Node = dict[str, Any]


def _charset(name: str) -> codecs.CodecInfo | None:
    return codecs.lookup(CHARSETS[name]) if name in CHARSETS else None


def _without_packages(levels: list[Node], key: Any, within: Any) -> None:
    levels[:] = [level for level in levels if level[key] != "CPS"]
    for level in levels:
        _without_packages(level.get(within, []), key, within)


def _prepare() -> None:
    """Its grammars lie in folders where its reader does not look for them."""
    config = importlib.import_module("bots.botsconfig")
    sys.modules.update(
        {f"{PACKAGE}.{each}.edifact": importlib.import_module(f"{PACKAGE}.edifact") for each in DIRECTORIES}
    )
    for directory in DIRECTORIES:
        grammar = importlib.import_module(f"{PACKAGE}.{directory}.INVRPT{directory}UN")
        _without_packages(grammar.structure, config.ID, config.LEVEL)
        for association in ("", "EAN004", "EAN010"):
            sys.modules[f"{PACKAGE}.INVRPT{directory}UN{association}"] = grammar


def tree(kind: str, data: bytes) -> Node:
    """What it makes of a document; `kind`: x12 or edifact."""
    logging.disable(logging.CRITICAL)
    try:
        edi_parser = importlib.import_module("edi_parser")
        inmessage = importlib.import_module("edi_parser.core.inmessage")
        _prepare()
        codecs.register(_charset)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inmessage.botslib, "readdata_bin", lambda filename: data)
            found = edi_parser.parse_edi(data.decode("latin-1"), kind, kind)
    finally:
        logging.disable(logging.NOTSET)
        codecs.unregister(_charset)
    assert found["errors"] == []
    return dict(found["data"])


def below(node: Node, tag: str) -> Iterator[Node]:
    """All of a tag, at any depth, in their order."""
    for child in node.get("children", []) + node.get("_children", []):
        if child.get("BOTSID") == tag:
            yield child
        yield from below(child, tag)
