"""What the peers in Python share: an environment of its own for each, their programs, and the schema file."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import schemas
from stockweave.broker.jars import default_cache
from stockweave.errors import Fatal

PROGRAMS = Path(__file__).with_name("programs")
SCHEMA = Path(schemas.__file__).with_name("avro") / "StockUpdate.1.avsc"


@dataclass(frozen=True)
class Environment:
    """A virtual environment in the user's cache, made once for each set of pins, which are not ours."""

    peer: str
    requirements: Path

    @property
    def folder(self) -> Path:
        """Named by the pins and the Python."""
        pins = hashlib.sha256(self.requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
        return default_cache().parent / f"{self.peer}-{pins}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def install(self) -> None:
        """Make it, unless it is there.

        Raises:
            Fatal: pip cannot.
        """
        installed = self.folder / "installed"
        if installed.exists():
            return
        print(f"installing {self.peer} into {self.folder}", flush=True)
        pip = [str(self.python), "-m", "pip", "install", "--quiet", "--requirement", str(self.requirements)]
        for command in ([sys.executable, "-m", "venv", "--clear", str(self.folder)], pip):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                said = (done.stdout + done.stderr).strip()[-1_000:]
                raise Fatal(
                    f"the peer {self.peer} cannot be installed: check the network, or choose other --peers; pip: {said}"
                )
        installed.touch()
