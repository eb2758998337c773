"""Who this worker is: an id kept in its data folder, and a lock that no second process shares.

The id makes the `transactional.id` stable over restarts, so that `init_transactions` ends what the former self left
open within a second instead of after the transaction's timeout; the lock makes it unique.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path
from types import TracebackType

from stockweave.errors import Fatal


class Identity:
    """Holds the lock from construction to `release`.

    Args:
        data_dir: the worker's own folder; made if it is missing.

    Raises:
        Fatal: another process works in this folder, or it cannot be written.
    """

    def __init__(self, data_dir: Path) -> None:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(data_dir / "worker.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise Fatal(f"the data folder {data_dir} cannot be used: {error.strerror}; choose another") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise Fatal(f"another worker runs in {data_dir}; stop it, or give this one another --data-dir") from error
        path = data_dir / "worker-id"
        if not path.exists() or not path.read_text().strip():
            partial = data_dir / "worker-id.new"
            partial.write_text(uuid.uuid4().hex[:12])
            partial.replace(path)  # whole or not at all, whenever we are killed
        self.worker_id = path.read_text().strip()

    def release(self) -> None:
        """Let another process work in the folder."""
        os.close(self._lock)

    def __enter__(self) -> Identity:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
