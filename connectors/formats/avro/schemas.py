"""Where the schemas of messages come from: a file, files by id, or a registry with Confluent's API.

Invariant: a registry is asked for an id once, and again after a while for one that it does not know; files are read for
each document, so that a changed one holds at once. What goes wrong is told without a secret. Used by `messages`, in its
thread.
"""

from __future__ import annotations

import base64
import http.client
import time
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from connectors.credentials.tls import context_of
from connectors.formats.avro.config import AvroConfig, SchemaRegistry
from connectors.formats.avro.records import Decoder, decoder
from schemas.codec import FRAME
from stockweave.errors import Rejected, Retriable

SCHEMA_BYTES_MAX = 4 << 20
UNKNOWN_S = 10.0  # so long an id that the registry does not know is not asked for again
UNKNOWN_MAX = 10_000  # such ids


class Schemas:
    """Of the messages of one document. `frame_bytes`: so many stand before a record, to name its schema."""

    def __init__(self, config: AvroConfig) -> None:
        self._config = config
        self.frame_bytes = 0 if config.schema_file is not None else FRAME.size
        self._known: dict[int, Decoder] = {}

    def only(self) -> Decoder:
        """That of all messages.

        Raises:
            Retriable: its file cannot be read.
            Rejected: it is no schema.
        """
        return self._once(0, self._config.schema_file or "")

    def of(self, schema_id: int) -> Decoder:
        """That of an id.

        Raises:
            Retriable: it cannot be had now.
            Rejected: there is none, or it is of no use.
        """
        if self._config.registry is not None:
            return decoder(_registry(self._config.registry).schema(schema_id))
        file = (self._config.schema_files or {}).get(schema_id)
        if file is None:
            raise Rejected("unknown_schema_id", "it is not among schema_files; add it")
        return self._once(schema_id, file)

    def _once(self, schema_id: int, file: str) -> Decoder:
        if schema_id not in self._known:
            try:
                self._known[schema_id] = decoder(Path(file).read_bytes())
            except OSError as error:
                raise Retriable(
                    f"the schema in {file} cannot be read ({type(error).__name__}); mend the file"
                ) from None
        return self._known[schema_id]


class _Registry:
    """One, and what it has answered."""

    def __init__(self, config: SchemaRegistry) -> None:
        self._config = config
        self._known: dict[int, bytes] = {}
        self._unknown: dict[int, tuple[float, Rejected]] = {}  # until when; the oldest first

    def schema(self, schema_id: int) -> bytes:
        """As JSON; raises as `Schemas.of`."""
        if (known := self._known.get(schema_id)) is not None:
            return known
        until_s, why = self._unknown.get(schema_id, (0.0, None))
        if why is not None and time.monotonic() < until_s:
            raise why
        try:
            self._known[schema_id] = self._asked(f"/schemas/ids/{schema_id}")
        except Rejected as why:
            if len(self._unknown) >= UNKNOWN_MAX:
                self._unknown.pop(next(iter(self._unknown)), None)
            self._unknown.pop(schema_id, None)
            self._unknown[schema_id] = time.monotonic() + UNKNOWN_S, why
            raise
        return self._known[schema_id]

    def _asked(self, path: str) -> bytes:
        config, url = self._config, urlsplit(self._config.url)
        headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if config.user is not None and config.password is not None:
            proof = base64.b64encode(f"{config.user}:{config.password.read()}".encode()).decode()
            headers["Authorization"] = f"Basic {proof}"
        connection = self._connection(url.scheme == "https", url.hostname or "", url.port)
        try:
            connection.request("GET", url.path.rstrip("/") + path, headers=headers)
            answer = connection.getresponse()
            body = answer.read(SCHEMA_BYTES_MAX + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = type(error).__name__  # its text may hold what was sent
            raise Retriable(f"the schema registry {config.url} does not answer ({why}); is it up?") from None
        finally:
            connection.close()
        return self._schema(answer.status, body)

    def _connection(self, is_encrypted: bool, host: str, port: int | None) -> http.client.HTTPConnection:
        timeout_s, tls = self._config.timeout_s, self._config.tls
        if not is_encrypted:
            return http.client.HTTPConnection(host, port, timeout=timeout_s)
        context = context_of(None, None) if tls is None else context_of(tls.ca_file, tls.client)
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)

    def _schema(self, status: int, body: bytes) -> bytes:
        said = f"the schema registry {self._config.url}"
        if status == http.HTTPStatus.NOT_FOUND:
            raise Rejected("unknown_schema_id", f"{said} does not know it; is it the supplier's?")
        if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            raise Retriable(f"{said} answers {status}; mend registry.user and registry.password")
        if status != http.HTTPStatus.OK:
            raise Retriable(f"{said} answers {status}; is it up? Else mend registry.url")
        try:
            told = orjson.loads(body) if len(body) <= SCHEMA_BYTES_MAX else None
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict) or not isinstance(told.get("schema"), str):
            raise Retriable(f"{said} answers with no schema; mend registry.url")
        if told.get("schemaType", "AVRO") != "AVRO":
            raise Rejected("unknown_schema_id", f"it is of {told['schemaType']!r:.40}; only AVRO is read")
        if told.get("references"):
            raise Rejected(
                "unknown_schema_id", "it refers to other schemas; write it whole, and name it in schema_files"
            )
        schema: str = told["schema"]
        return schema.encode()


@lru_cache(100)
def _registry(config: SchemaRegistry) -> _Registry:
    return _Registry(config)
