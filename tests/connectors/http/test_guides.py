"""The suppliers of the guide pages of kinds over HTTP, as a person tries them: with the command, against a server."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import orjson
import pytest

from connectors.testing.faults import Served
from connectors.testing.graphql_server import GraphqlSupplier
from connectors.testing.http_server import HttpSupplier
from connectors.testing.soap_server import SoapSupplier

DOCS = Path(__file__).parents[3] / "docs" / "connectors"
ROWS = [{"code": "s1", "stock": 5}, {"code": "s2", "stock": 0}]
SECRET = "s3cret-of-acme"


def supplier(kind: str) -> Served:
    match kind:
        case "rest":
            return HttpSupplier(ROWS, key=SECRET)
        case "graphql":
            return GraphqlSupplier(ROWS, token=SECRET)
        case _:
            return SoapSupplier(ROWS, user=("we", SECRET))


@pytest.mark.parametrize("kind", ["rest", "graphql", "soap"])
async def test_the_supplier_of_a_guide_is_read_by_the_command(kind: str, tmp_path: Path) -> None:
    [text] = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / f"{kind}.md").read_text(), re.DOTALL | re.MULTILINE)
    file = tmp_path / "acme.yaml"
    secrets = {f"ACME_{name}": SECRET for name in ("KEY", "TOKEN", "PASSWORD")}
    async with supplier(kind) as served:
        file.write_text(text.replace("https://api.acme.example", served.origin))
        command = ["-m", "stockweave", "connectors", "try", str(file), "acme/stock", "--json"]
        tried = await asyncio.create_subprocess_exec(
            sys.executable, *command, env={**os.environ, **secrets}, stdout=-1, stderr=-1
        )
        out, err = await tried.communicate()
    assert (tried.returncode, err) == (0, b"")
    updates = [orjson.loads(line) for line in out.splitlines()]
    assert [(each["sku"], each["quantity"]) for each in updates] == [("s1", 5), ("s2", 0)]
