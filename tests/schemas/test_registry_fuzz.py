"""Whatever the files of the registry hold, it opens, or says which file is wrong and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from schemas.codec import Codec
from schemas.registry import AVRO_DIR, FileRegistry, fingerprint, release
from stockweave.errors import Fatal
from tests.fuzz.one import child

SEED = 20_261_121
IDS = (AVRO_DIR / "ids.json").read_bytes()
UPDATE = (AVRO_DIR / "StockUpdate.1.avsc").read_bytes()


@pytest.fixture
def packaged(tmp_path: Path) -> Path:
    """A copy of the packaged folder that a test may change."""
    for path in AVRO_DIR.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_hostile_files_end_in_one_line_that_says_what_to_do() -> None:
    assert child("registry", SEED, 80).cases == 80


def entry(**fields: object) -> bytes:
    """The ids, with one changed."""
    ids = json.loads(IDS)
    ids["8"] |= fields
    return json.dumps(ids).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (IDS[:-20], "is not JSON"),
        (b"\xff" + IDS, "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[" * 500 + b"]" * 500, "deep"),
        (b'{"1": ' + b"9" * 5_000 + b"}", "is not JSON"),
        (b" " * (5 << 20), "larger"),
        (b"[]", "no JSON object"),
        (b'{"8": 5}', "entry of id '8'"),
        (b'{"8": {}}', "entry of id '8'"),
        (IDS.replace(b'"8"', b'"08"'), "entry of id '08'"),
        (IDS.replace(b'"8"', b'"-8"'), "entry of id '-8'"),
        (IDS.replace(b'"8"', b'"4294967296"'), "entry of id '4294967296'"),
        (IDS.replace(b'"8"', '"\u0663"'.encode()), "entry of id"),
        (IDS.replace(b'"9": {', b'"8": {'), "twice"),
        (entry(version=0), "entry of id '8'"),
        (entry(version=-1), "entry of id '8'"),
        (entry(version="1"), "entry of id '8'"),
        (entry(version=True), "entry of id '8'"),
        (entry(name=5), "entry of id '8'"),
        (entry(more=1), "entry of id '8'"),
        (entry(version=2), "StockUpdate.2.avsc is missing"),
        (entry(name="../x"), "x.1.avsc is missing"),
        (entry(sha256=""), "changed after its release"),
        (IDS.replace(b'"version": 2', b'"version": 1'), "under two ids"),
    ],
)
def test_ids_that_cannot_be_used_are_refused_by_their_file(packaged: Path, content: bytes, said: str) -> None:
    (packaged / "ids.json").write_bytes(content)
    with pytest.raises(Fatal, match=said) as refused:
        FileRegistry(packaged)
    assert str(packaged) in str(refused.value)
    assert "; " in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (UPDATE[:300], "is not JSON"),
        (b"[]", "is no schema"),
        (b"5", "is no schema"),
        (b'"string"', "is not the schema of StockUpdate"),
        (UPDATE.replace(b'"name": "StockUpdate"', b'"name": "Other"'), "is not the schema of StockUpdate"),
        (UPDATE.replace(b'"fields"', b'"field"', 1), "is no schema"),
        (
            b'{"type": "record", "name": "StockUpdate", "fields": [{"name": "s", "type": "StockUpdate"}]}',
            "holds itself",
        ),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_by_its_file(packaged: Path, content: bytes, said: str) -> None:
    path = packaged / "StockUpdate.1.avsc"
    path.write_bytes(content)
    for open_it in (FileRegistry, release):
        with pytest.raises(Fatal, match=said) as refused:
            open_it(packaged)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize(("field", "changed"), [(4, {"default": {}}), (5, {"type": {"type": "long"}})])
def test_a_schema_that_only_the_decoder_refuses_is_refused_at_the_start(
    packaged: Path, field: int, changed: dict[str, object]
) -> None:
    schema = json.loads(UPDATE)
    kind = schema["fields"][field]["type"]
    schema["fields"][field]["type"] = ({} if isinstance(kind, str) else kind) | changed
    (packaged / "StockUpdate.1.avsc").write_text(json.dumps(schema))
    (packaged / "ids.json").write_bytes(entry(sha256=fingerprint(schema)))
    registry = FileRegistry(packaged)
    with pytest.raises(Fatal, match="newest schema of StockUpdate cannot be used"):
        Codec("StockUpdate", registry)


@pytest.mark.parametrize("name", ["x.avsc", "StockUpdate.avsc", "StockUpdate.02.avsc", "StockUpdate.1.2.avsc"])
def test_a_file_of_another_name_is_named(packaged: Path, name: str) -> None:
    (packaged / name).write_bytes(UPDATE)
    with pytest.raises(Fatal, match="named in another way"):
        FileRegistry(packaged)


def test_a_file_that_is_gone_is_named(packaged: Path) -> None:
    (packaged / "ids.json").unlink()
    with pytest.raises(Fatal, match=r"ids\.json cannot be read"):
        FileRegistry(packaged)


def test_a_schema_without_an_id_is_told_to_who_asks_for_it(packaged: Path) -> None:
    (packaged / "ids.json").write_text("{}")
    with pytest.raises(Fatal, match="has no id of StockUpdate"):
        Codec("StockUpdate", FileRegistry(packaged))


def test_the_newest_version_is_the_highest_wherever_it_stands_in_the_file(packaged: Path) -> None:
    ids = json.loads(IDS)
    (packaged / "ids.json").write_text(json.dumps(dict(reversed(ids.items()))))
    assert FileRegistry(packaged).id_of("Position") == FileRegistry().id_of("Position") == 18
