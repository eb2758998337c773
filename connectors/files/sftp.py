"""A folder of an SFTP server: the kind `sftp`.

Invariant: nothing is told to a server whose host key is not the one that was expected, neither a password nor a
signature. One connection is kept, and another one opened after whatever failure. No error tells what the library or
the server said: it may hold a secret.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import asyncssh
from asyncssh.constants import FILEXFER_TYPE_REGULAR, FILEXFER_TYPE_SYMLINK
from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from connectors.credentials.secret import Secret
from connectors.documents import Kind, Surroundings
from connectors.files.source import Entry, FilesConfig, FileSource
from stockweave.errors import Retriable

BLOCK_BYTES = 240 << 10  # the common servers answer no more in one message; some tell that they answer less
BLOCK_BYTES_MIN = 32 << 10  # every server answers that much
AHEAD_BYTES = 4 << 20  # asked for before the first of them are here: at most so many are in memory
AHEAD = 128  # requests
ALIVE_S = 15.0  # so often a silent connection is asked whether it still is one


class SftpConfig(FilesConfig):
    """A folder of an SFTP server.

    `key`: a private key, with its `passphrase` if it has one. `known_hosts`: a file as OpenSSH has it; or `host_key`,
    the server's public key. `timeout_s`: of each request.
    """

    kind: Literal["sftp"] = "sftp"
    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65_535)] = 22
    user: Annotated[str, Field(min_length=1)]
    password: Secret | None = None
    key: Secret | None = None
    passphrase: Secret | None = None
    known_hosts: Annotated[str, Field(min_length=1)] | None = None
    host_key: str | None = None
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 30.0

    @field_validator("host_key")
    @classmethod
    def _is_public_key(cls, given: str | None) -> str | None:
        try:
            if given is not None:
                asyncssh.import_public_key(given)
        except asyncssh.KeyImportError:
            raise PydanticCustomError(
                "host_key", "is no public key; write it as `ssh-keyscan` does, without the host's name before it"
            ) from None
        return given

    @model_validator(mode="after")
    def _says_who_is_who(self) -> Self:
        if (self.password is None) == (self.key is None):
            raise PydanticCustomError("login", "needs either password or key, and not both")
        if self.passphrase is not None and self.key is None:
            raise PydanticCustomError("login", "has a passphrase without a key; remove it")
        if (self.known_hosts is None) == (self.host_key is None):
            raise PydanticCustomError(
                "host_key",
                "needs either known_hosts or host_key, and not both: else it is anybody who gets the password",
            )
        return self


class SftpFolder:
    """The folder `path` of the server."""

    is_remote: ClassVar[bool] = True

    def __init__(self, config: SftpConfig) -> None:
        self._config = config
        self._at = f"sftp {config.host}:{config.port}"
        self._connection: asyncssh.SSHClientConnection | None = None
        self._client: asyncssh.SFTPClient | None = None

    async def entries(self) -> list[Entry]:
        """The files that are there, those as well to which a link leads."""
        found = []
        async with self._telling(f"the folder {self._config.path}", "path") as client:
            async with asyncio.timeout(self._config.timeout_s) as limit:
                async for name in client.scandir(self._config.path):
                    limit.reschedule(asyncio.get_running_loop().time() + self._config.timeout_s)
                    entry = await self._entry(client, name)
                    if entry is not None:
                        found.append(entry)
        return found

    async def _entry(self, client: asyncssh.SFTPClient, name: asyncssh.SFTPName) -> Entry | None:
        attrs, filename = name.attrs, str(name.filename)
        if attrs.type == FILEXFER_TYPE_SYMLINK:
            with suppress(asyncssh.SFTPNoSuchFile):
                attrs = await client.stat(self._path_of(filename))
        if attrs.type != FILEXFER_TYPE_REGULAR or attrs.size is None or attrs.mtime is None:
            return None
        return Entry(filename, attrs.size, attrs.mtime * 1_000 + (attrs.mtime_ns or 0) // 1_000_000)

    async def blocks(self, name: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes, asked for ahead of time."""
        async with self._telling(f"the file {self._path_of(name)}", "path") as client:
            async with asyncio.timeout(self._config.timeout_s):
                file = await client.open(self._path_of(name), "rb", block_size=0)
                before = await file.stat()
            at_once = min(BLOCK_BYTES, max(BLOCK_BYTES_MIN, client.limits.max_read_len))
            async for block in self._in_order(file, before.size or 0, at_once):
                yield block
            async with asyncio.timeout(self._config.timeout_s):
                after = await file.stat()
                await file.close()
        if (after.size, after.mtime, after.mtime_ns) != (before.size, before.mtime, before.mtime_ns):
            raise Retriable(
                f"{self._at}: file {name} changed while it was read; raise settle_s, or have it renamed into the"
                " folder when it is whole"
            )

    async def _in_order(self, file: asyncssh.SFTPClientFile, size: int, at_once: int) -> AsyncGenerator[bytes, None]:
        """Block after block, `at_once` bytes each, until the first that is shorter than it should be."""
        asked: deque[tuple[int, asyncio.Task[bytes]]] = deque()
        offset = 0
        try:
            while asked or offset < size:
                while offset < size and len(asked) < min(AHEAD, AHEAD_BYTES // at_once):
                    length = min(at_once, size - offset)
                    asked.append((length, asyncio.create_task(_block(file, offset, length))))
                    offset += length
                length, task = asked[0]
                block = await asyncio.wait_for(task, self._config.timeout_s)
                asked.popleft()
                if block:
                    yield block
                if len(block) < length:
                    return
        finally:
            for _, task in asked:
                task.cancel()
            await asyncio.gather(*(task for _, task in asked), return_exceptions=True)

    async def move(self, name: str, to: str) -> None:
        """Into another folder; one that has its name there is replaced."""
        folder = posixpath.join(self._config.path, to)
        async with self._telling(f"the way of {name} to the folder {folder}", "to") as client:
            async with asyncio.timeout(self._config.timeout_s):
                await client.makedirs(folder, exist_ok=True)
                source, target = self._path_of(name), posixpath.join(folder, name)
                try:
                    await client.posix_rename(source, target)
                except asyncssh.SFTPOpUnsupported:
                    with suppress(asyncssh.SFTPNoSuchFile):
                        await client.remove(target)
                    await client.rename(source, target)

    async def delete(self, name: str) -> None:
        """For good."""
        async with self._telling(f"the file {self._path_of(name)}", "path") as client:
            async with asyncio.timeout(self._config.timeout_s):
                with suppress(asyncssh.SFTPNoSuchFile):
                    await client.remove(self._path_of(name))

    async def news(self) -> None:
        """Nobody tells."""
        await asyncio.Event().wait()

    async def close(self) -> None:
        """Close the connection."""
        connection = self._connection
        self._drop()
        if connection is not None:
            await connection.wait_closed()

    def _path_of(self, name: str) -> str:
        return posixpath.join(self._config.path, name)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        self._connection = self._client = None

    @asynccontextmanager
    async def _telling(self, what: str, option: str) -> AsyncIterator[asyncssh.SFTPClient]:
        """Around requests: what fails is told in our words, and the connection is given up.

        Args:
            what: they are about.
            option: to be mended if that is not there.
        """
        is_well = False
        try:
            client = await self._opened()
            yield client
            is_well = True
        except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory):
            raise Retriable(f"{self._at} has not {what}; create it, or mend {option}") from None
        except asyncssh.SFTPPermissionDenied:
            raise Retriable(
                f"{self._at} gives {self._config.user} no right to {what}; have the supplier grant it"
            ) from None
        except (asyncssh.ConnectionLost, asyncssh.SFTPConnectionLost):
            raise Retriable(f"{self._at} cut the connection; is it up?") from None
        except asyncssh.SFTPError as error:
            raise Retriable(
                f"{self._at} fails with {what} ({type(error).__name__}); ask the supplier, or mend {option}"
            ) from None
        except UnicodeDecodeError:
            raise Retriable(f"{self._at}: a name in {what} is not UTF-8; have the supplier rename it") from None
        except (asyncssh.Error, OSError) as error:
            raise Retriable(
                f"{self._at} does not answer ({type(error).__name__}); is it up? Else mend host, port or timeout_s"
            ) from None
        finally:
            if not is_well:
                self._drop()

    async def _opened(self) -> asyncssh.SFTPClient:
        if self._client is not None and self._connection is not None and not self._connection.is_closed():
            return self._client
        self._drop()
        config = self._config
        hosts, keys = self._hosts(), self._keys()
        password = None if config.password is None else config.password.read()
        try:
            self._connection = await asyncssh.connect(
                config.host,
                config.port,
                config=None,  # nor anything else of the user who runs us
                agent_path=None,
                username=config.user,
                password=password,
                client_keys=keys,
                known_hosts=hosts,
                x509_trusted_certs=None,
                gss_host=None,
                connect_timeout=config.timeout_s,
                login_timeout=config.timeout_s,
                keepalive_interval=ALIVE_S,
            )
            async with asyncio.timeout(config.timeout_s):
                self._client = await self._connection.start_sftp_client()
        except asyncssh.PermissionDenied:
            secret = "password" if keys is None else "key"
            raise Retriable(f"{self._at} refuses {config.user}; mend user or {secret}") from None
        except asyncssh.HostKeyNotVerifiable:
            where = "host_key" if config.known_hosts is None else f"what {config.known_hosts} says of it"
            raise Retriable(
                f"{self._at} shows a host key that is not {where}, and was told nothing; ask the supplier which one"
                " is right, and mend host or that"
            ) from None
        except asyncssh.ChannelOpenError:
            raise Retriable(f"{self._at} has no SFTP for {config.user}; have the supplier turn it on") from None
        except asyncssh.KeyExchangeFailed:
            raise Retriable(
                f"{self._at} has no cipher that is safe still; have the supplier renew the server"
            ) from None
        return self._client

    def _hosts(
        self,
    ) -> asyncssh.SSHKnownHosts | tuple[list[asyncssh.SSHKey], list[asyncssh.SSHKey], list[asyncssh.SSHKey]]:
        if self._config.host_key is not None:
            return [asyncssh.import_public_key(self._config.host_key)], [], []
        path = Path(self._config.known_hosts or "")
        try:
            return asyncssh.import_known_hosts(path.read_text())
        except (OSError, ValueError) as error:
            raise Retriable(f"known_hosts {path} cannot be read ({type(error).__name__}); mend the file") from None

    def _keys(self) -> list[asyncssh.SSHKey] | None:
        config = self._config
        if config.key is None:
            return None
        passphrase = None if config.passphrase is None else config.passphrase.read()
        try:
            return [asyncssh.import_private_key(config.key.read() + "\n", passphrase)]
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise Retriable(
                f"{self._at}: key is no private key that can be read ({type(error).__name__}); mend key or passphrase"
            ) from None


async def _block(file: asyncssh.SFTPClientFile, offset: int, length: int) -> bytes:
    """So many bytes, however few the server gives at once; fewer at the end of the file."""
    block: bytes = await file.read(length, offset)
    while 0 < len(block) < length:
        more: bytes = await file.read(length - len(block), offset + len(block))
        if not more:
            break
        block += more
    return block


def _open(config: SftpConfig, around: Surroundings) -> FileSource:
    return FileSource(config, SftpFolder(config), around)


KIND = Kind(SftpConfig, _open)
