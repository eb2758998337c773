"""A secret by where it is kept: the configuration never holds one, and no error, log or dead letter tells one.

Read at each use, so that a changed one holds at once; from Vault, within half a minute. Used by `http` and by the kinds
that log in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel, model_validator
from pydantic_core import PydanticCustomError

from connectors.credentials.vault import VaultSecret, vault
from connectors.options import Options
from stockweave.errors import Retriable


class Secret(Options):
    """`env`: the name of an environment variable; `file`: the path of a file, whose last line end is left out.

    `vault`: where it is in HashiCorp Vault.
    """

    env: str | None = None
    file: str | None = None
    vault: VaultSecret | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if [self.env, self.file, self.vault].count(None) != 2:
            raise PydanticCustomError("secret", "needs one of env, file and vault, and no more")
        return self

    async def ready(self) -> None:
        """Until `read` has something to say; it waits for nobody.

        Raises:
            Retriable: whoever keeps it is away.
        """
        if self.vault is not None:
            await vault().ready(self.vault)

    def read(self) -> str:
        """As it is now.

        Raises:
            Retriable: it is not there; names where it was looked for.
        """
        if self.env is not None:
            found = os.environ.get(self.env)
            if not found:
                raise Retriable(f"the environment has no {self.env}; set it, and start again")
            return found
        if self.vault is not None:
            return vault().read(self.vault)
        path = Path(self.file or "")
        try:
            found = path.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Retriable(f"the secret in {path} cannot be read ({type(error).__name__}); mend the file") from None
        if not found:
            raise Retriable(f"the secret in {path} is empty; write it into the file")
        return found


def secrets_in(options: BaseModel) -> Iterator[Secret]:
    """Those within some options."""
    if isinstance(options, Secret):
        yield options
        return
    for _, value in options:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, BaseModel):
                yield from secrets_in(each)


async def ready(options: BaseModel) -> None:
    """`Secret.ready`, of all within some options."""
    for secret in secrets_in(options):
        await secret.ready()
