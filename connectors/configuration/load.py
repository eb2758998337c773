"""All suppliers of a folder, one YAML file each: checked whole, so that a fault is told before anything of it runs.

Called by `stockweave connectors check`, at the start of `run`, and whenever a file changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from connectors.budget import Limits
from connectors.configuration.faults import told
from connectors.configuration.models import FeedConfig, SupplierConfig, model_of
from connectors.configuration.yaml_file import Parsed
from connectors.documents import Kind
from stockweave.errors import Rejected

PATTERNS = ("*.yaml", "*.yml")


class Feed(NamedTuple):
    """A feed of a supplier."""

    supplier: str
    name: str
    config: FeedConfig

    @property
    def whole_name(self) -> str:
        """Of all suppliers' feeds, its own."""
        return f"{self.supplier}/{self.name}"


class Loaded(NamedTuple):
    """What the files say. `faults`: each a line, `file:line: place: what is wrong and the remedy`.

    `suppliers`: what each file said when it was well last.
    """

    feeds: dict[str, Feed]
    limits: dict[str, Limits]
    faults: list[str]
    suppliers: dict[Path, SupplierConfig]


def files_in(folder: Path) -> list[Path]:
    """The suppliers' files of a folder; or the file that it is."""
    return [folder] if folder.is_file() else sorted(file for each in PATTERNS for file in folder.glob(each))


def load(folder: Path, kinds: Mapping[str, Kind], former: Loaded | None = None) -> Loaded:
    """The suppliers of a folder, or of one file; those without a fault, and all faults.

    Args:
        folder: where the files are.
        kinds: of sources.
        former: what was loaded before; a file with a fault says what it said then.
    """
    feeds: dict[str, Feed] = {}
    limits: dict[str, Limits] = {}
    faults: list[str] = []
    suppliers: dict[Path, SupplierConfig] = {}
    model, files = model_of(kinds), files_in(folder)
    if not folder.exists():
        faults.append(f"{folder}: there is no such folder or file; create it, or mend its path")
    elif not files:
        faults.append(f"{folder}: there is no YAML file in it; write one for each supplier")
    for file in files:
        try:
            config = read(file, model)
        except Rejected as why:
            faults += str(why).splitlines()
            if former is None or file not in former.suppliers:
                continue
            config = former.suppliers[file]
        if config.supplier in limits:
            faults.append(f"{file}:1: supplier: {config.supplier} has another file already; put all of it into one")
            continue
        suppliers[file] = config
        limits[config.supplier] = config.limits
        of_supplier = [Feed(config.supplier, name, each) for name, each in config.feeds.items()]
        feeds.update((feed.whole_name, feed) for feed in of_supplier)
    return Loaded(feeds, limits, faults, suppliers)


def well(folder: Path, kinds: Mapping[str, Kind]) -> Loaded:
    """`load`, for who can do nothing with half of it.

    Raises:
        Rejected: with a line for each fault.
    """
    loaded = load(folder, kinds)
    refuse(loaded)
    return loaded


def refuse(loaded: Loaded) -> None:
    """Raise Rejected, with a line for each fault, where there is one."""
    if loaded.faults:
        raise Rejected("invalid_configuration", "\n".join(["these have to be mended:", *loaded.faults]))


def read(file: Path, model: type[SupplierConfig]) -> SupplierConfig:
    """One file.

    Raises:
        Rejected: with a line for each fault.
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        remedy = "save it as UTF-8" if isinstance(error, UnicodeDecodeError) else "mend it"
        raise Rejected("invalid_yaml", f"{file}: cannot be read ({error}); {remedy}") from None
    try:
        parsed = Parsed(text)
    except Rejected as why:
        raise Rejected(why.reason, f"{file}:{why}") from None
    try:
        return model.model_validate(parsed.value)
    except ValidationError as error:
        faults = [f"{file}:{told(each, parsed)}" for each in error.errors(include_url=False, include_input=False)]
        raise Rejected("invalid_configuration", "\n".join(faults)) from None
