"""Whom we trust over TLS, and the certificate that we show (mTLS): files, of which renewed ones hold at once.

Used by the kinds that speak HTTP, and by `ftp`.
"""

from __future__ import annotations

import pathlib
import ssl
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from connectors.credentials.secret import Secret
from connectors.options import Options
from stockweave.errors import Retriable

Path = Annotated[str, Field(min_length=1)]


class ClientCertificate(Options):
    """Of us, as PEM. `key_file`: of its private key, unless that is in `certificate_file` as well."""

    certificate_file: Path
    key_file: Path | None = None
    key_password: Secret | None = None

    def show(self, context: ssl.SSLContext) -> None:
        """From now on, to who asks for one.

        Raises:
            Retriable: the files are not there, or do not belong together.
        """
        password = "" if self.key_password is None else self.key_password.read()
        try:
            context.load_cert_chain(self.certificate_file, self.key_file, lambda: password)  # else it asks a terminal
        except (OSError, ValueError) as error:
            place = self.certificate_file if self.key_file is None else f"{self.certificate_file} and {self.key_file}"
            raise Retriable(
                f"{place} give no certificate with its key ({type(error).__name__}); mend the files or key_password"
            ) from None


class Tls(Options):
    """`ca_file`: certificates to trust instead of those of this machine. `client`: what we show."""

    ca_file: Path | None = None
    client: ClientCertificate | None = None


def context_of(ca_file: str | None, client: ClientCertificate | None) -> ssl.SSLContext:
    """As the files are now.

    Raises:
        Retriable: one cannot be used.
    """
    try:
        made = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Retriable(f"ca_file {ca_file} cannot be read ({type(error).__name__}); mend the file") from None
    if client is not None:
        client.show(made)
    return made


class Contexts:
    """Made anew when a file has changed. Args: config: None for what this machine trusts."""

    def __init__(self, config: Tls | None) -> None:
        self._config = config
        self._seen: list[tuple[int, int, int]] = []
        self._made: ssl.SSLContext | None = None

    def now(self) -> ssl.SSLContext | bool:
        """As aiohttp takes it.

        Raises:
            Retriable: a file cannot be used.
        """
        if self._config is None:
            return True
        seen = list(self._states(self._config))
        if self._made is None or seen != self._seen:
            self._made = context_of(self._config.ca_file, self._config.client)
            self._seen = seen
        return self._made

    @staticmethod
    def _states(config: Tls) -> Iterator[tuple[int, int, int]]:
        """Of each file, what changes when it does."""
        client = config.client
        files = [config.ca_file] + ([] if client is None else [client.certificate_file, client.key_file])
        for file in files:
            if file is not None:
                try:
                    state = pathlib.Path(file).stat()
                except OSError as error:
                    raise Retriable(f"{file} cannot be read ({type(error).__name__}); mend the file, or tls") from None
                yield state.st_ino, state.st_mtime_ns, state.st_size
