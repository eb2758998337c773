"""Who this worker is: an id kept in its data folder, which a lock keeps from a second process.

The id makes the `transactional.id` stable over restarts, so that `init_transactions` ends what the former self left
open within a second instead of after the transaction's timeout; the lock makes it unique.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from types import TracebackType

from stockweave.errors import Fatal
from stockweave.folder_lock import lock_folder


class Identity:
    """Holds the lock from construction to `release`.

    Args:
        data_dir: the worker's own folder; made if it is missing.

    Raises:
        Fatal: another process works in this folder, or it cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        self._lock = lock_folder(data_dir, "worker")
        path = data_dir / "worker-id"
        try:
            if not path.exists() or not path.read_text().strip():
                partial = data_dir / "worker-id.new"
                partial.write_text(uuid.uuid4().hex[:12])
                partial.replace(path)  # whole or not at all, whenever we are killed
            self.worker_id = path.read_text().strip()
        except OSError as error:
            self._lock.close()
            raise Fatal(
                f"cannot keep the worker's id in {path}: {error.strerror}; free some space on its disk, or choose "
                "another folder with STOCKWEAVE_DATA_DIR"
            ) from error

    def release(self) -> None:
        """Let another process work in the folder."""
        self._lock.close()

    def __enter__(self) -> Identity:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
