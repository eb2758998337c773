"""Hostile contents of the packaged registry's files, and the law that holds for all of them."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from schemas.codec import Codec
from schemas.registry import AVRO_DIR, FileRegistry, fingerprint, release
from stockweave.errors import Fatal, Rejected
from tests.fuzz.avro import GOOD
from tests.fuzz.junk import spoilt, spoilt_json


def contents(drawn: random.Random, path: Path) -> bytes:
    """What takes the place of a file: cut off, changed as bytes or as JSON, nested, empty, of another kind."""
    before = path.read_bytes()
    match drawn.randrange(8):
        case 0:
            return before[: drawn.randrange(len(before))]
        case 1 | 2:
            return spoilt(drawn, before)
        case 3:
            return b"[" * drawn.choice((10, 200, 900, 5_000, 200_000)) + before
        case 4:
            depth = drawn.choice((50, 150, 400, 900))
            return before.rstrip()[:-1] + b', "deep": ' + b"[" * depth + b"]" * depth + b"}"
        case 5:
            return drawn.choice(
                (b"", b"\0", b"{}", b"[]", b"null", b"7" * 5_000, b'{"1": 2, "1": 2}', b"\xff\xfe{\0}\0")
            )
    return json.dumps(spoilt_json(drawn, json.loads(before))).encode()


def files(folder: Path) -> Callable[[random.Random, int], int]:
    """Registries in `folder`: each opens and decodes, or says in one line which file is wrong and what to do."""

    def run(drawn: random.Random, cases: int) -> int:
        for case in range(cases):
            made = folder / "avro"
            shutil.copytree(AVRO_DIR, made)
            try:
                _spoil(drawn, made)
                _open(made)
            except (Fatal, Rejected) as why:
                said = str(why)
                assert ".avsc" in said or "ids.json" in said or "schema" in said, said
                assert "; " in said, said
                assert "\n" not in said, said
                assert len(said) < 10_000, case
            finally:
                shutil.rmtree(made)
        return cases

    return run


def _spoil(drawn: random.Random, made: Path) -> None:
    path = drawn.choice((made / "ids.json", made / "StockUpdate.1.avsc", made / "Position.2.avsc"))
    path.write_bytes(contents(drawn, path))
    if path.suffix == ".avsc" and drawn.randrange(3):  # as if it had been released so
        ids = json.loads((made / "ids.json").read_bytes())
        try:
            sha256 = fingerprint(json.loads(path.read_bytes()))
        except (ValueError, RecursionError):
            return
        for entry in ids.values():
            if f"{entry['name']}.{entry['version']}.avsc" == path.name:
                entry["sha256"] = sha256
        (made / "ids.json").write_text(json.dumps(ids))
    if drawn.randrange(10) == 0:
        path.rename(made / drawn.choice(("x.avsc", "A.0.avsc", "A.1.2.avsc", "A.01.avsc", "ids.json", "B.1.avsc")))


def _open(made: Path) -> None:
    registry = FileRegistry(made)
    for name in ("StockUpdate", "Policy"):
        codec = Codec(name, registry)
        codec.decode(GOOD)
        codec.arrow(GOOD)
    release(made)
