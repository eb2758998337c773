"""The wheel: holds all that the product needs at run time, and works where the repository is not."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("schemas", "inventory", "state", "connectors", "streams", "api", "stockweave")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    [built] = folder.iterdir()
    return built


def test_it_holds_every_file_of_the_code_and_nothing_else(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *FOLDERS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert packed == {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}
    for needed in ("schemas/avro/ids.json", "schemas/avro/StockUpdate.1.avsc", "stockweave/broker/jars.lock"):
        assert needed in packed


def test_it_runs_in_an_environment_elsewhere(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True, with_pip=False)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(environment), "platbase": str(environment)}))
    target = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run([*target, "--python", environment / "bin" / "python", wheel], check=True)
    # Dependencies are this environment's, named as a folder: so its own link to the repository does not count.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def ask(*command: str | Path) -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert ask(environment / "bin" / "stockweave", "version") == wheel.name.split("-")[1] + "\n"
    program = (
        "import schemas.registry, stockweave.broker.jars as jars\n"
        "print(schemas.registry.__file__, len(schemas.registry.FileRegistry()._by_id), len(jars.locked_jars()))"
    )
    file, ids, locked = ask(environment / "bin" / "python", "-I", "-c", program).split()
    assert file.startswith(str(site))
    assert int(ids) >= 8
    assert int(locked) >= 40
