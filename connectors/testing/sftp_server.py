"""An SFTP server of one folder and one user, in this process, with faults on demand; its keys are made anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh

from connectors.testing.transfer_faults import TransferFaults

HOST = "127.0.0.1"
ARRIVAL_S = 0.2  # before a cut, so that what comes before it has arrived


class SftpServer:
    """`async with` starts and stops it.

    Args:
        root: what its user sees as `/`.
        password: of the user; None: it logs in with a key alone.
        user_key: the user's public key, if it may log in with one.
        faults: what goes wrong.
        user: its name.
    """

    def __init__(
        self,
        root: Path,
        password: str | None = None,
        user_key: asyncssh.SSHKey | None = None,
        faults: TransferFaults | None = None,
        user: str = "stockweave",
    ) -> None:
        self.root = root
        self.password = password
        self.user_key = user_key
        self.user = user
        self.faults = faults or TransferFaults()
        self.port = 0
        self.connections = 0
        self.forbidden = ""
        """A folder that nobody may list."""
        self.replaces = True
        """Whether a file that is renamed replaces one of that name."""
        self._host_key = asyncssh.generate_private_key("ssh-ed25519")
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._open: set[asyncssh.SSHServerConnection] = set()
        self._sessions = 0
        self.leaving = asyncio.Event()
        """Set while it stops: who is slow need not be any longer."""
        self._is_left = asyncio.Event()
        self._is_left.set()

    @property
    def host_key(self) -> str:
        """Its public key, as the option `host_key` has it."""
        return self._host_key.export_public_key().decode().strip()

    @property
    def known_hosts(self) -> str:
        """The line of a file `known_hosts`."""
        return f"[{HOST}]:{self.port} {self.host_key}\n"

    async def __aenter__(self) -> Self:
        self.leaving.clear()
        self._acceptor = await asyncssh.listen(
            HOST,
            self.port,  # the same as before, if it was started before
            config=None,
            server_factory=lambda: _Logins(self),
            server_host_keys=[self._host_key],
            sftp_factory=lambda channel: _Files(channel, self),
            gss_host=None,
        )
        self.port = self._acceptor.get_port()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            self.leaving.set()
            self.disconnect()
            await self._acceptor.wait_closed()
            await self._is_left.wait()  # then no file is open any more

    def disconnect(self) -> None:
        """Cut all connections."""
        for connection in list(self._open):
            connection.abort()

    def heard(self, connection: asyncssh.SSHServerConnection) -> None:
        """There is one more connection."""
        self.connections += 1
        self._open.add(connection)

    def session(self, change: int) -> None:
        """There is one session more, or less."""
        self._sessions += change
        if self._sessions:
            self._is_left.clear()
        else:
            self._is_left.set()

    def lost(self, connection: asyncssh.SSHServerConnection) -> None:
        """It is gone."""
        self._open.discard(connection)


class _Logins(asyncssh.SSHServer):
    def __init__(self, server: SftpServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None
        self._refuses = False

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.heard(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._server.lost(self._connection)

    def begin_auth(self, username: str) -> bool:
        self._refuses = self._server.faults.refuses_login()
        return True

    def password_auth_supported(self) -> bool:
        return self._server.password is not None

    def validate_password(self, username: str, password: str) -> bool:
        return not self._refuses and (username, password) == (self._server.user, self._server.password)

    def public_key_auth_supported(self) -> bool:
        return self._server.user_key is not None

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = self._server.user_key
        is_known = known is not None and key.public_data == known.public_data
        return not self._refuses and username == self._server.user and is_known


class _Files(asyncssh.SFTPServer):
    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], server: SftpServer) -> None:
        super().__init__(channel, chroot=str(server.root).encode())
        self._server = server
        self._faults = server.faults
        self._is_cut = False
        server.session(+1)

    def exit(self) -> None:
        self._server.session(-1)

    def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        if path.decode() == self._server.forbidden:
            raise asyncssh.SFTPPermissionDenied("forbidden")
        return super().scandir(path)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        if not self._server.replaces:
            raise asyncssh.SFTPOpUnsupported("no such extension")
        super().posix_rename(oldpath, newpath)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        if self._faults.slow_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._server.leaving.wait(), self._faults.slow_s)
        if not self._is_cut and self._faults.cut_before(offset + size) is not None:
            self._is_cut = True
            await asyncio.sleep(ARRIVAL_S)
            self.connection.abort()
        if self._is_cut:
            raise asyncssh.SFTPConnectionLost("cut")
        found: Any = super().read(file_obj, offset, size)
        return bytes(found)
