"""An FTP server of one folder and one user, in a thread of this process, with TLS if wanted, and faults on demand."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pyftpdlib import ioloop  # type: ignore[import-untyped]  # first: it keeps quiet about what it is made of
from pyftpdlib.authorizers import DummyAuthorizer  # type: ignore[import-untyped]
from pyftpdlib.handlers import DTPHandler, FTPHandler  # type: ignore[import-untyped]
from pyftpdlib.servers import FTPServer  # type: ignore[import-untyped]

from connectors.testing.transfer_faults import TransferFaults

HOST = "127.0.0.1"
READS, CHANGES = "elr", "adfmwMT"
TURN_S = 0.05  # so long it may take until the thread hears that it is to stop
HANDSHAKE_S = 5.0


class FtpServer:
    """`with` starts and stops it.

    Args:
        root: what its user sees as `/`.
        password: of the user.
        tls: as the option of that name.
        certificate: of `self_signed`, for TLS.
        faults: what goes wrong.
        user: its name.
        lacks: commands that it does not know.
        replaces: whether a file that is renamed replaces one of that name.
        may_change: whether the user may do more than read.
        context: for TLS, instead of `certificate`.
    """

    def __init__(
        self,
        root: Path,
        password: str,
        tls: Literal["none", "explicit", "implicit"] = "none",
        certificate: Path | None = None,
        faults: TransferFaults | None = None,
        user: str = "stockweave",
        lacks: tuple[str, ...] = (),
        *,
        replaces: bool = True,
        may_change: bool = True,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.user = user
        self.faults = faults or TransferFaults()
        self.port = 0
        self.users: list[str] = []
        """Who said a name, right or wrong."""
        logins = _Logins(self.faults)
        logins.add_user(user, password, str(root), perm=READS + CHANGES if may_change else READS)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        data = type("Data", (_Data,), {"faults": self.faults})
        attributes = {
            "authorizer": logins,
            "dtp_handler": data,
            "context": context,
            "users": self.users,
            "replaces": replaces,
            "is_implicit": tls == "implicit",
            "proto_cmds": {name: known for name, known in _Control.proto_cmds.items() if name not in lacks},
        }
        self._handler = type("Control", (_Control,), attributes)
        self._told = threading.Event()
        self._hangs_up = threading.Event()
        self._hung_up = threading.Event()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ftp-server")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._told.set()
        self._thread.join()

    def disconnect(self) -> None:
        """Cut all connections."""
        self._hung_up.clear()
        self._hangs_up.set()
        self._hung_up.wait()

    def _serve(self) -> None:
        server = FTPServer((HOST, 0), self._handler, ioloop=ioloop.IOLoop())
        self.port = server.address[1]
        self._started.set()
        while not self._told.is_set():
            server.ioloop.loop(timeout=TURN_S, blocking=False)
            if self._hangs_up.is_set():
                for connection in list(server.ioloop.socket_map.values()):
                    if isinstance(connection, _Control):
                        connection.close()
                self._hangs_up.clear()
                self._hung_up.set()
        server.close_all()


def self_signed(folder: Path) -> Path:
    """A certificate for this machine, with its private key: of the server, and the `ca_file` of who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a supplier")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


class _Logins(DummyAuthorizer):  # type: ignore[misc]
    def __init__(self, faults: TransferFaults) -> None:
        super().__init__()
        self._faults = faults

    def validate_authentication(self, username: str, password: str, handler: object) -> None:
        if self._faults.refuses_login():
            password = ""
        super().validate_authentication(username, password, handler)


class _Tls:
    """A connection whose bytes go through TLS once it is `secured`; the handshake keeps the thread waiting."""

    socket: Any

    def secured(self, context: ssl.SSLContext) -> None:
        """From here on."""
        plain: socket.socket = self.socket
        plain.settimeout(HANDSHAKE_S)
        try:
            self.socket = context.wrap_socket(plain, server_side=True)
        except OSError:  # the client does not like our certificate, and it hears no more from us
            self.socket.close()
            return
        self.socket.setblocking(False)

    def send(self, data: bytes) -> int:
        try:
            sent: int = super().send(data)  # type: ignore[misc]
        except ssl.SSLWantWriteError:
            return 0
        return sent

    def recv(self, size: int) -> bytes:
        try:
            received: bytes = super().recv(size)  # type: ignore[misc]
        except ssl.SSLWantReadError as error:
            raise ioloop._RetryError from error
        return received

    def close(self) -> None:
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.fileno() >= 0:
            with suppress(OSError):  # of a client that has gone, or says goodbye later than we
                self.socket.unwrap()
        super().close()  # type: ignore[misc]


class _Data(_Tls, DTPHandler):  # type: ignore[misc]
    faults: ClassVar[TransferFaults]

    def __init__(self, sock: socket.socket, cmd_channel: _Control) -> None:
        super().__init__(sock, cmd_channel)
        if cmd_channel.protects_data and cmd_channel.context is not None:
            self.secured(cmd_channel.context)

    def use_sendfile(self) -> bool:
        return False

    def send(self, data: bytes) -> int:
        time.sleep(self.faults.slow_s)
        sent = self.tot_bytes_sent
        cut = self.faults.cut_before(sent + len(data)) if self.file_obj is not None else None
        if cut is None:
            return super().send(data)
        super().send(data[: max(0, cut - sent)])
        if self.faults.says_whole:
            self._resp = ("226 Transfer complete.", self.log)
        else:
            self.cmd_channel.close()
        self.close()
        return len(data)


class _Control(_Tls, FTPHandler):  # type: ignore[misc]
    auth_failed_timeout = 0
    context: ClassVar[ssl.SSLContext | None] = None
    is_implicit: ClassVar[bool] = False
    users: ClassVar[list[str]] = []
    replaces: ClassVar[bool] = True
    protects_data = False
    proto_cmds: ClassVar[dict[str, Any]] = FTPHandler.proto_cmds | {
        name: {"perm": None, "auth": False, "arg": True, "help": f"Syntax: {name} <SP> argument"}
        for name in ("AUTH", "PBSZ", "PROT")
    }

    def handle(self) -> None:
        if self.is_implicit and self.context is not None:
            self.secured(self.context)
        super().handle()

    def ftp_USER(self, line: str) -> None:  # noqa: N802 - the library finds it by its name
        self.users.append(line)
        super().ftp_USER(line)

    def ftp_RNTO(self, path: str) -> None:  # noqa: N802
        if self.fs.lexists(path) and not self.replaces:
            self.respond("553 There is one.")
        else:
            super().ftp_RNTO(path)

    def ftp_AUTH(self, line: str) -> None:  # noqa: N802
        if self.context is None:
            self.respond("502 There is no TLS.")
            return
        self.respond("234 Go on with TLS.")
        self.secured(self.context)

    def ftp_PBSZ(self, line: str) -> None:  # noqa: N802
        self.respond("200 No size.")

    def ftp_PROT(self, line: str) -> None:  # noqa: N802
        self.protects_data = line.upper() == "P" and self.context is not None
        self.respond("200 So be it.")
