"""A secret by where it is kept: the configuration never holds one, and no error, log or dead letter tells one.

Read at each use, so that a changed one holds at once. Used by `http` and by the kinds that log in.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from connectors.options import Options
from stockweave.errors import Retriable


class Secret(Options):
    """`env`: the name of an environment variable; `file`: the path of a file, whose last line end is left out."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _says_where(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise PydanticCustomError("secret", "needs either env or file, and not both")
        return self

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
        path = Path(self.file or "")
        try:
            return path.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Retriable(f"the secret in {path} cannot be read ({type(error).__name__}); mend the file") from None
