from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.registry import AVRO_DIR, FileRegistry, release, versions
from schemas.topics import CATALOGUE
from stockweave.errors import Fatal, Rejected


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    """A copy of the packaged folder that a test may change."""
    for path in AVRO_DIR.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def edit(path: Path, change: Callable[[dict[str, Any]], object], to: Path | None = None) -> None:
    schema = json.loads(path.read_text())
    change(schema)
    (to or path).write_text(json.dumps(schema))


def fields_of(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from fields_of(branch)
    elif isinstance(schema, dict):
        yield from schema.get("fields", ())
        for inner in (*(f["type"] for f in schema.get("fields", ())), schema.get("items"), schema.get("values")):
            yield from fields_of(inner)


def test_every_id_names_its_schema_and_every_name_its_newest_version() -> None:
    registry = FileRegistry()
    ids = json.loads((AVRO_DIR / "ids.json").read_text())
    assert {entry["name"] for entry in ids.values()} == set(versions())
    for schema_id, entry in ids.items():
        assert registry.schema_of(int(schema_id)) == versions()[entry["name"]][entry["version"] - 1]
    for name, released in versions().items():
        assert registry.schema_of(registry.id_of(name)) == released[-1]


def test_every_schema_is_released(packaged: Path) -> None:
    before = (packaged / "ids.json").read_bytes()
    assert release(packaged) == []
    assert (packaged / "ids.json").read_bytes() == before


def test_every_topic_names_a_schema_that_exists() -> None:
    assert {topic.schema for topic in CATALOGUE if topic.schema} <= set(versions())


@pytest.mark.parametrize("name", versions())
def test_every_field_says_what_it_means_and_times_say_their_unit(name: str) -> None:
    schema = versions()[name][-1]
    assert schema["doc"]
    for field in fields_of(schema):
        assert field.get("doc"), f"{name}.{field['name']} has no doc"
        if field["name"].endswith(("_at", "_ms")) or field["name"] in ("at", "clock"):
            assert "milliseconds" in field["doc"].lower(), f"{name}.{field['name']} does not name its unit"
        if field["name"] == "quantity":
            assert "units" in field["doc"].lower(), f"{name}.{field['name']} does not name its unit"


def test_an_unknown_id_is_rejected() -> None:
    with pytest.raises(Rejected, match="schema id 4711 is not in the registry") as caught:
        FileRegistry().schema_of(4711)
    assert caught.value.reason == "unknown_schema_id"


def test_a_released_schema_that_was_edited_is_refused(packaged: Path) -> None:
    edit(packaged / "StockUpdate.1.avsc", lambda schema: schema["fields"][0].update(name="article"))
    with pytest.raises(Fatal, match=r"StockUpdate\.1\.avsc was changed after its release; restore it"):
        FileRegistry(packaged)


def test_a_released_schemas_docs_may_be_mended(packaged: Path) -> None:
    edit(packaged / "StockUpdate.1.avsc", lambda schema: schema["fields"][0].update(doc="Said better."))
    assert FileRegistry(packaged).id_of("StockUpdate") == FileRegistry().id_of("StockUpdate")


def test_an_id_whose_file_is_gone_is_refused(packaged: Path) -> None:
    (packaged / "StockAlert.1.avsc").unlink()
    with pytest.raises(Fatal, match=r"StockAlert\.1\.avsc is missing"):
        FileRegistry(packaged)


def test_a_compatible_version_gets_the_next_id_and_the_old_one_stays(packaged: Path) -> None:
    def add(schema: dict[str, Any]) -> None:
        schema["fields"].append({"name": "grade", "type": "string", "default": "new", "doc": "Its condition."})

    edit(packaged / "StockUpdate.1.avsc", add, to=packaged / "StockUpdate.2.avsc")
    before = json.loads((packaged / "ids.json").read_text())
    assert release(packaged) == ["StockUpdate.2"]
    after = json.loads((packaged / "ids.json").read_text())
    assert {i: after[i] for i in before} == before
    registry = FileRegistry(packaged)
    assert registry.id_of("StockUpdate") == len(before) + 1
    assert registry.schema_of(FileRegistry().id_of("StockUpdate")) == versions()["StockUpdate"][0]


def test_a_version_that_cannot_read_an_earlier_one_is_not_released(packaged: Path) -> None:
    first = packaged / "StockUpdate.1.avsc"
    edit(first, lambda schema: schema["fields"].append({"name": "x", "type": "long"}), packaged / "StockUpdate.2.avsc")
    with pytest.raises(Fatal, match=r"StockUpdate\.2 cannot read what StockUpdate\.1 wrote: x: new, without a default"):
        release(packaged)
    assert (packaged / "ids.json").read_bytes() == (AVRO_DIR / "ids.json").read_bytes()


def test_a_version_is_held_against_every_earlier_one_not_just_the_last(packaged: Path) -> None:
    first, second, third = (packaged / f"StockUpdate.{n}.avsc" for n in (1, 2, 3))
    edit(first, lambda s: s["fields"].append({"name": "x", "type": "string", "default": ""}), second)
    edit(first, lambda s: s["fields"].append({"name": "x", "type": "string"}), third)
    with pytest.raises(Fatal, match=r"StockUpdate\.3 cannot read what StockUpdate\.1 wrote"):
        release(packaged)


def test_versions_are_numbered_without_a_gap(packaged: Path) -> None:
    edit(packaged / "StockUpdate.1.avsc", lambda _: None, to=packaged / "StockUpdate.3.avsc")
    with pytest.raises(Fatal, match=r"StockUpdate\.2\.avsc is missing, and later versions are there"):
        versions(packaged)
