"""The pages on connectors say what is so: their examples are read, and one kind of theirs is run."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from connectors import reference
from connectors.budget import Budget, Limits
from connectors.configuration.load import load
from connectors.documents import Document, Surroundings
from connectors.kinds import kinds
from stockweave.world import SystemClock

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [DOCS / "connectors.md", *sorted((DOCS / "connectors").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_reference_lists_every_option() -> None:
    path = DOCS / "connectors" / "reference.md"
    assert path.read_text() == reference.markdown(), (
        "run `python -m connectors.reference > docs/connectors/reference.md`"
    )


def test_every_kind_has_a_page_that_the_first_one_names() -> None:
    first = (DOCS / "connectors.md").read_text()
    for kind in kinds():
        assert f"(connectors/{kind}.md)" in first, kind
        assert (DOCS / "connectors" / f"{kind}.md").exists(), kind


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_example_of_a_supplier_is_well(page: Path, tmp_path: Path) -> None:
    for n, text in enumerate(block for block in blocks(page, "yaml") if block.startswith("supplier:")):
        file = tmp_path / f"{n}.yaml"
        file.write_text(text)
        assert load(file, kinds()).faults == [], text


async def test_the_kind_that_is_shown_is_one(tmp_path: Path) -> None:
    [code] = blocks(DOCS / "connectors.md", "python")
    spool = ModuleType("spool")
    exec(compile(code, "spool", "exec", dont_inherit=True), spool.__dict__)
    file = tmp_path / "stock.csv"
    file.write_text("code,stock\n")
    clock = SystemClock()
    config = spool.KIND.config.model_validate({"kind": "spool", "path": str(file)})
    source = spool.KIND.open(config, Surroundings(1, clock, Budget(Limits(), clock)))

    async def read(state: dict[str, int]) -> list[tuple[Document, bytes]]:
        found = [document async for document in source.read(state)]
        return [(each, b"".join([block async for block in each.blocks])) for each in found]

    [(document, body)] = await read({})
    assert body == b"code,stock\n"
    assert await read(document.after or {}) == []
