"""A folder of an FTP server, with TLS unless it is told to do without: the kind `ftp`.

Invariant: with TLS, nothing is told to a server whose certificate is not trusted. One connection is kept, and another
one opened after whatever failure. No error tells what the library or the server said: it may hold a secret.
"""

from __future__ import annotations

import asyncio
import fnmatch
import posixpath
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal

import aioftp
from pydantic import Field, StringConstraints

from connectors.credentials.secret import Secret
from connectors.credentials.tls import ClientCertificate, context_of
from connectors.documents import Kind, Surroundings
from connectors.files.source import Entry, FilesConfig, FileSource
from stockweave.errors import Retriable

BLOCK_BYTES = 256 << 10
PORTS = {"none": 21, "explicit": 21, "implicit": 990}
FAILURES = (aioftp.AIOFTPException, OSError, EOFError, ValueError, LookupError)
"""Of the library: it reads answers without a check of its own."""

Line = StringConstraints(min_length=1, pattern=r"^[^\r\n]*$")
"""What is told to the server in a line."""


class FtpConfig(FilesConfig):
    """A folder of an FTP server.

    `port`: 21, or 990 if TLS is implicit. `tls`: from the first byte, from a command on, or none at all. `ca_file`:
    certificates to trust instead of those of this machine. `client`: the certificate that we show. `timeout_s`: of each
    request.
    """

    kind: Literal["ftp"] = "ftp"
    path: Annotated[str, Line] = "."
    to: Annotated[str, Line] = "read"
    host: Annotated[str, Line]
    port: Annotated[int, Field(ge=1, le=65_535)] | None = None
    user: Annotated[str, Line] = "anonymous"
    password: Secret | None = None
    tls: Literal["none", "explicit", "implicit"] = "explicit"
    ca_file: Annotated[str, Field(min_length=1)] | None = None
    client: ClientCertificate | None = None
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0


class FtpFolder:
    """The folder `path` of the server."""

    is_remote: ClassVar[bool] = True

    def __init__(self, config: FtpConfig) -> None:
        self._config = config
        self._port = config.port or PORTS[config.tls]
        self._at = f"ftp {config.host}:{self._port}"
        self._client: _Client | None = None

    async def entries(self) -> list[Entry]:
        """The files that are there."""
        async with self._telling(f"the folder {self._config.path}") as client:
            if client.lacks_mlsd:
                return await self._entries_one_by_one(client)
            try:
                listed = await client.list(raw_command="MLSD")
            except aioftp.StatusCodeError as error:
                client.lacks_mlsd = error.received_codes[-1].matches("50x")
                if not client.lacks_mlsd:
                    raise
                return await self._entries_one_by_one(client)
        found = []
        for path, info in listed:
            facts: dict[str, Any] = dict(info)
            if facts.get("type", "").lower() == "file":
                if "size" not in facts or "modify" not in facts:
                    raise Retriable(f"{self._at} tells no size or time of its files; ask the supplier for SFTP")
                found.append(Entry(path.name, int(facts["size"]), _ms(facts["modify"])))
        return found

    async def _entries_one_by_one(self, client: _Client) -> list[Entry]:
        """Where there is no MLSD (RFC 3659): of LIST, each server has its own, in its own time zone."""
        async with client.get_stream("NLST", "1xx") as stream:
            names = [posixpath.basename(line.decode().rstrip("\r\n")) async for line in stream.iter_by_line()]
        found = []
        for name in names:
            if fnmatch.fnmatchcase(name, self._config.pattern):
                code, size = await client.command(f"SIZE {name}", ("213", "550"))
                if code == "213":  # else it is a folder, or has gone
                    _, time = await client.command(f"MDTM {name}", "213")
                    found.append(Entry(name, int(size[-1]), _ms(time[-1].strip())))
        return found

    async def blocks(self, name: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes."""
        async with (
            self._telling(f"the file {name} in {self._config.path}") as client,
            client.download_stream(name) as stream,
        ):
            while block := await stream.read(BLOCK_BYTES):
                yield block

    async def move(self, name: str, to: str) -> None:
        """Into another folder; one that has its name there is replaced."""
        async with self._telling(f"the way of {name} to the folder {to} below {self._config.path}") as client:
            levels = posixpath.normpath(to).split("/")
            for depth in range(1, len(levels) + 1):
                if folder := "/".join(levels[:depth]):
                    await client.command(f"MKD {folder}", ("257", "5xx"))  # most are there; the next command tells
            target = posixpath.join(to, name)
            try:
                await client.rename(name, target)
            except aioftp.StatusCodeError as error:
                if not error.received_codes[-1].matches("55x"):
                    raise
                await client.command(f"DELE {target}", "2xx")  # some replace nothing
                await client.rename(name, target)

    async def delete(self, name: str) -> None:
        """For good."""
        async with self._telling(f"the file {name} in {self._config.path}") as client:
            await client.command(f"DELE {name}", "2xx")

    async def news(self) -> None:
        """Nobody tells."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the connection."""
        self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None

    @asynccontextmanager
    async def _telling(self, what: str) -> AsyncIterator[_Client]:
        """Around requests: what fails is told in our words, and the connection is given up. `what`: they are about."""
        is_well = False
        try:
            yield await self._opened()
            is_well = True
        except aioftp.StatusCodeError as error:
            raise Retriable(
                f"{self._at} refuses {what} ({_code(error)}): it is not there, or {self._config.user} has no right to"
                " it; mend path or to, or have the supplier grant it"
            ) from None
        except (OSError, EOFError) as error:
            raise Retriable(
                f"{self._at} does not answer ({type(error).__name__}); is it up? Else mend host, port, tls or timeout_s"
            ) from None
        except FAILURES as error:
            raise Retriable(
                f"{self._at} answers what is no FTP ({type(error).__name__}), or has names that are not UTF-8; have the"
                " supplier mend it"
            ) from None
        finally:
            if not is_well:
                self._drop()

    async def _opened(self) -> _Client:
        if self._client is not None:
            try:
                await self._client.command("NOOP", "2xx")
            except FAILURES:  # it was silent for longer than the server puts up with
                self._drop()
            else:
                return self._client
        config = self._config
        password = aioftp.DEFAULT_PASSWORD if config.password is None else config.password.read()
        context = None if config.tls == "none" else context_of(config.ca_file, config.client)
        client = self._client = _Client(
            socket_timeout=config.timeout_s,
            connection_timeout=config.timeout_s,
            ssl=context if config.tls == "implicit" else None,
        )
        async with asyncio.timeout(config.timeout_s):
            await self._connect(client, context)
            try:
                await client.login(config.user, password)
            except aioftp.StatusCodeError as error:
                raise Retriable(
                    f"{self._at} refuses {config.user} ({_code(error)}); mend user, password or tls"
                ) from None
            await client.change_directory(config.path)
        return client

    async def _connect(self, client: _Client, context: ssl.SSLContext | None) -> None:
        """As far as the login."""
        try:
            await client.connect(self._config.host, self._port)
            if self._config.tls == "explicit":
                await client.upgrade_to_tls(context)
            elif self._config.tls == "implicit":
                for command in ("PBSZ 0", "PROT P"):
                    await client.command(command, ("2xx", "5xx"))  # some take it for granted
        except ssl.SSLCertVerificationError:
            raise Retriable(
                f"{self._at} shows a certificate that is not trusted, and was told nothing; mend host, or name it in"
                " ca_file"
            ) from None
        except ssl.SSLError:
            raise Retriable(f"{self._at} speaks no TLS that is safe still; mend tls or port") from None
        except aioftp.StatusCodeError as error:
            raise Retriable(
                f"{self._at} does not let us in, or not with TLS ({_code(error)}); mend tls: with none, everybody on"
                " the way reads the password"
            ) from None


class _Client(aioftp.Client):
    """Leaves nothing open. `lacks_mlsd`: as its server has answered."""

    lacks_mlsd = False
    _data: asyncio.StreamWriter | None = None

    async def get_passive_connection(
        self, conn_type: Literal["I", "A", "E", "L"] = "I", commands: Sequence[str] | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Lets go of the one before, which may have come to nothing, and remembers this one."""
        _abort(self._data)
        reader, writer = await super().get_passive_connection(conn_type, commands)
        self._data = writer
        return reader, writer

    def close(self) -> None:
        """At once."""
        _abort(self._data)
        _abort(None if self._stream is None else self._stream.writer)


def _abort(stream: asyncio.StreamWriter | None) -> None:
    if stream is not None and not stream.transport.is_closing():
        stream.transport.abort()


def _code(error: aioftp.StatusCodeError) -> str:
    return str(error.received_codes[-1])


def _ms(time: str) -> int:
    """Of `YYYYMMDDHHMMSS.sss`, in UTC (RFC 3659)."""
    seconds, _, fraction = time.partition(".")
    at = datetime.strptime(seconds, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return int(at.timestamp()) * 1_000 + int(fraction[:3].ljust(3, "0") or 0)


def _open(config: FtpConfig, around: Surroundings) -> FileSource:
    return FileSource(config, FtpFolder(config), around)


KIND = Kind(FtpConfig, _open)
