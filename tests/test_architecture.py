"""The shape of the code, held by reading it: who imports whom, how long things are, what may not be written down."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("schemas", "inventory", "state", "connectors", "streams", "api", "stockweave")
SHARED = {
    f"stockweave.{name}"
    for name in (
        "bodies",
        "clients",
        "errors",
        "folder_lock",
        "logs",
        "metrics",
        "patience",
        "problems",
        "settings",
        "world",
    )
}
"""What every folder but `inventory` may use of `stockweave`; these use nothing but each other and `schemas`."""

MAY_IMPORT = {
    "schemas": {"stockweave.clients", "stockweave.errors", "stockweave.settings"},
    "inventory": {"schemas"},
    "state": {"schemas", *SHARED},
    "connectors": {"schemas", "inventory", "state", *SHARED},
    "streams": {"schemas", "inventory", "state", *SHARED},
    "api": {"schemas", "inventory", "state", *SHARED},
    "stockweave": set(FOLDERS),
}
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.~])/(?:work|root|home/[a-z]|Users/[A-Za-z])\w*/",
    "the host of a package registry": r"pypi\.org|pythonhosted\.org|npmjs\.org|crates\.io"
    r"|(?<!google\.)golang\.org(?!/x/)"  # else the name of a module
    r"|maven\.org|maven\.apache\.org(?!/POM/)|sonatype\.org|deb\.debian\.org",
}


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(text: str, package: tuple[str, ...]) -> Iterator[str]:
    """Every module of ours that a file of `package` imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names] if base in FOLDERS else [base]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in FOLDERS)


def strays(path: Path, allowed: set[str]) -> list[str]:
    """What a file imports beyond what is allowed."""
    local = path.relative_to(ROOT)
    return [
        f"{local} imports {name}"
        for name in imported(path.read_text(), local.parent.parts)
        if not any(name == granted or name.startswith(granted + ".") for granted in allowed)
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    assert [s for path in sources(folder) for s in strays(path, MAY_IMPORT[folder] | {folder})] == []


def test_what_all_share_imports_nothing_but_its_like_and_the_contracts() -> None:
    paths = [ROOT / (name.replace(".", "/") + ".py") for name in sorted(SHARED)]
    assert [s for path in paths for s in strays(path, SHARED | {"schemas"})] == []


def test_the_reading_of_imports_misses_none() -> None:
    text = "import streams.pump\nfrom connectors import push\nfrom . import view\ndef f():\n from .. import state\n"
    assert list(imported(text, ("api", "deep"))) == ["streams.pump", "connectors.push", "api.deep", "api.state"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_module_can_be_imported(folder: str) -> None:
    package = importlib.import_module(folder)
    for module in pkgutil.walk_packages(package.__path__, folder + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_every_folder_of_code_is_a_package_and_says_what_it_is_for() -> None:
    for folder in {path.parent for path in sources(*FOLDERS)}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_every_module_opens_with_its_role() -> None:
    silent = [path for path in sources(*FOLDERS, "benchmarks") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_files_and_functions_stay_short() -> None:
    long = []
    for path in sources(*FOLDERS, "tests", "benchmarks"):
        text = path.read_text()
        if (lines := text.count("\n")) > FILE_LINES_MAX:
            long.append(f"{path.relative_to(ROOT)} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{path.relative_to(ROOT)} {node.name} has {lines} lines")
    assert long == []


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_names(what: str) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    tracked = [ROOT / name for name in listed.split("\0") if name]
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path.relative_to(ROOT)}:{number} {line.strip()[:100]}"
        for path in tracked
        if path.is_file() and path != Path(__file__)
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert len(tracked) > 50
    assert found == []
