"""The kind `upload`: files that a supplier posts, read from the folder that the server puts them into.

Runs where the leases want it: with several processes on several machines, the folder has to be a shared one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connectors.credentials.secret import Secret
from connectors.documents import Kind, Surroundings
from connectors.files.local import LocalFolder
from connectors.files.source import FilesConfig, FileSource


class UploadConfig(FilesConfig):
    """Files that are posted to `/uploads/<supplier>/<feed>`.

    `path`: of the folder, which is made. `token`: that the supplier proves itself with, as a bearer; `previous`: holds
    beside it. A file appears there whole, so nothing has to settle; what was read is deleted unless `then` says else.
    """

    is_content_named: ClassVar[bool] = False  # one that is posted again is another file
    asks_supplier: ClassVar[bool] = False

    kind: Literal["upload"] = "upload"
    token: Secret
    previous: Secret | None = None
    bytes_max: Annotated[int, Field(ge=1, le=1 << 40)] = 1 << 30
    settle_s: Annotated[float, Field(ge=0, le=3_600)] = 0.0
    then: Literal["leave", "delete", "move"] = "delete"

    @property
    def is_document_whole(self) -> bool:
        """Whether each file is a snapshot."""
        return True


def _open(config: UploadConfig, around: Surroundings) -> FileSource:
    return FileSource(config, LocalFolder(Path(config.path)), around)


KIND = Kind(UploadConfig, _open)
