"""`.env.example` lists every setting with its default; written by `python -m tests.stockweave.test_env_example`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined

from stockweave.settings import Settings

FILE = Path(__file__).parents[2] / ".env.example"
HEAD = "Every setting with its default. Copy to .env and uncomment what you change; the environment goes before .env."


def example() -> str:
    """The text that the file must hold."""
    lines = [f"# {HEAD}", ""]
    for name, field in Settings.model_fields.items():
        assert field.default is not PydanticUndefined, name
        default = "" if field.default is None else field.default
        lines += textwrap.wrap(field.description or "", 100, initial_indent="# ", subsequent_indent="# ")
        lines += [f"#STOCKWEAVE_{name.upper()}={default}", ""]
    return "\n".join(lines[:-1]) + "\n"


def test_it_lists_every_setting_with_its_default() -> None:
    assert FILE.read_text() == example(), f"run `python -m {__spec__.name} > .env.example`"


def test_every_setting_says_what_it_is() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]
    assert silent == []


def test_uncommented_it_gives_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"STOCKWEAVE_{name.upper()}", raising=False)
    settings = [line[1:] for line in FILE.read_text().splitlines() if line.startswith("#STOCKWEAVE_")]
    Path(".env").write_text("\n".join(line for line in settings if not line.endswith("=")))
    assert Settings() == Settings(_env_file=None)


if __name__ == "__main__":
    sys.stdout.write(example())
