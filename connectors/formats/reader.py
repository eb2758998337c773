"""One way into every format: by its configuration, from bytes to rows. Called by the runner and by `check`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from pydantic import Field

from connectors.formats import delimited, excel, json_rows, xml_rows
from connectors.formats.avro import container, messages
from connectors.formats.avro.config import AvroConfig
from connectors.formats.compression import plain
from connectors.formats.delimited import DelimitedConfig
from connectors.formats.edi import edifact, x12
from connectors.formats.edi.edifact import EdifactConfig
from connectors.formats.edi.x12 import X12Config
from connectors.formats.excel import ExcelConfig
from connectors.formats.json_rows import DocumentConfig, LinesConfig
from connectors.formats.rows import Rows
from connectors.formats.xml_rows import XmlConfig
from stockweave.errors import Rejected

Format = Annotated[
    DelimitedConfig | DocumentConfig | LinesConfig | XmlConfig | ExcelConfig | X12Config | EdifactConfig | AvroConfig,
    Field(discriminator="format"),
]


def read(blocks: Iterable[bytes], config: Format, paths: Sequence[str]) -> Iterator[Rows]:
    """Rows of a document, some at a time.

    Args:
        blocks: its bytes, in pieces of any size.
        config: how it is written.
        paths: what to find in each row.

    Raises:
        Rejected: it is not what the configuration says.
    """
    match config:
        case DelimitedConfig():
            return delimited.read(blocks, config, paths)
        case DocumentConfig():
            return json_rows.read_document(blocks, config, paths)
        case LinesConfig():
            return json_rows.read_lines(blocks, paths)
        case XmlConfig():
            return xml_rows.read(blocks, config, paths)
        case ExcelConfig():
            return excel.read(blocks, config, paths)
        case X12Config():
            return x12.read(blocks, config, paths)
        case EdifactConfig():
            return edifact.read(blocks, config, paths)
        case AvroConfig():
            return messages.read(blocks, config, paths) if config.is_of_messages else container.read(blocks, paths)


def read_packed(blocks: Iterable[bytes], config: Format, paths: Sequence[str]) -> Iterator[Rows]:
    """`read`, of what may be gzip, or a zip of one file; raises as it does."""
    return read(plain(blocks, unzip=not isinstance(config, ExcelConfig)), config, paths)


def read_again(head: bytes, original: bytes, config: Format, paths: Sequence[str]) -> Iterator[Rows]:
    """One row, by the bytes that were kept of it and the head of its document; what stood elsewhere is not there.

    Raises:
        Rejected: as `read`.
    """
    match config:
        case DocumentConfig():
            return json_rows.read_lines([original], paths)
        case ExcelConfig():
            return excel.read_again(head, original, paths)
        case X12Config() | EdifactConfig():
            detail = "what was kept of EDI stood in a message, and is none itself: have the feed read its file again"
            raise Rejected("not_by_itself", detail)
        case AvroConfig() if config.is_of_messages:
            return messages.read_again(original, config, paths)
        case AvroConfig():
            return container.read_again(head, original, paths)
        case _:
            return read([head + original], config, paths)


def takes_messages(config: Format) -> bool:
    """Whether its documents are of messages as `envelopes` packs them."""
    return isinstance(config, AvroConfig) and config.is_of_messages


def check_path(config: Format, path: str) -> None:
    """Raises `Rejected` for a path that the format cannot look for, whatever a document holds."""
    match config:
        case DocumentConfig() | LinesConfig() | AvroConfig():
            json_rows.field(path)
        case XmlConfig():
            xml_rows.field(path, config.namespaces)
        case X12Config():
            x12.field(path)
        case EdifactConfig():
            edifact.field(path)
        case DelimitedConfig(columns=names) if names:
            delimited.check_columns(names, [path])
        case _:
            pass
