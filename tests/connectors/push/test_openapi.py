"""The description of the push routes: it holds for what is sent and for what is answered."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse, web
from jsonschema import Draft202012Validator

from connectors.push.app import BATCH_PATH, ROOT, UPDATE_PATH
from connectors.push.openapi import contribution
from stockweave.ports import free_port
from stockweave.settings import Settings
from tests.connectors.service import Service, fields, line

DESCRIPTION = contribution(Settings())
_PROBLEM = {"type": "object", "required": ["type", "title", "status", "detail", "reason"]}


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    schemas = DESCRIPTION["components"]["schemas"] | {"Problem": _PROBLEM}
    return Draft202012Validator(schema | {"components": {"schemas": schemas}})


async def holds(response: ClientResponse, path: str, status: int) -> None:
    assert response.status == status
    described = DESCRIPTION["paths"][ROOT + path]["post"]["responses"][str(status)]["content"]
    body = orjson.loads(await response.read())
    schema = described[response.content_type]["schema"]
    validator(schema).validate(body)
    if response.content_type == "application/json":
        properties = DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
        assert set(body) == set(properties)


async def test_what_is_answered_is_what_is_described(push: Service) -> None:
    await holds(await push.one(**fields()), UPDATE_PATH, 202)
    await holds(await push.one(**fields(quantity=-1)), UPDATE_PATH, 422)
    await holds(
        await push.post("inventory-update", b"{", headers={"Content-Type": "application/json"}), UPDATE_PATH, 400
    )
    await holds(await push.post("inventory-update", b""), UPDATE_PATH, 415)
    await holds(await push.ndjson(line(1)), BATCH_PATH, 202)
    await holds(await push.ndjson(line(1), b"x", line(2, sku="")), BATCH_PATH, 207)
    await holds(await push.ndjson(), BATCH_PATH, 422)
    await holds(await push.array([fields(sku="x" * 300_000)]), BATCH_PATH, 413)


async def test_a_kafka_that_is_away_is_answered_as_described() -> None:
    settings = Settings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    async with Service(settings, "any") as away:
        await holds(await away.one(**fields()), UPDATE_PATH, 503)
        await holds(await away.ndjson(line(1)), BATCH_PATH, 503)


def test_every_route_is_described(push: Service) -> None:
    assert isinstance(push.client.app, web.Application)
    routes = [route for resource in push.client.app.router.resources() for route in resource]
    assert {route.resource.canonical for route in routes if route.resource} == set(DESCRIPTION["paths"])


@pytest.mark.parametrize(
    ("changed", "valid"),
    [
        ({}, True),
        ({"kind": "DELTA", "orderRef": "o1"}, True),
        ({"kind": "WITHDRAWN", "quantity": None}, True),
        ({"timestamp": "2026-08-21T09:30:00Z"}, True),
        ({"incoming": [{"expectedAt": 1_800_000_000_000, "quantity": 5}], "staleAfterMs": 60_000}, True),
        ({"sku": ""}, False),
        ({"sku": " a"}, False),
        ({"sku": "a\u0085b"}, False),
        ({"quantity": None}, False),
        ({"quantity": -1}, False),
        ({"kind": "DELTA", "quantity": 0}, False),
        ({"kind": "DELTA", "quantity": -1}, True),
        ({"kind": "DELTA", "staleAfterMs": 5}, False),
        ({"kind": "DELTA", "incoming": [{"expectedAt": 1_800_000_000_000, "quantity": 5}]}, False),
        ({"kind": "WITHDRAWN", "quantity": 0}, True),
        ({"kind": "WITHDRAWN", "quantity": 1}, False),
        ({"orderRef": "o1"}, False),
        ({"timestamp": "1999-08-21T09:30:00Z"}, False),
        ({"quantity": "5"}, False),
        ({"kind": "STOCK"}, False),
        ({"update_id": "u"}, False),
        ({"incoming": [{"quantity": 0}]}, False),
    ],
)
async def test_what_the_schema_takes_the_route_takes(push: Service, changed: dict[str, Any], valid: bool) -> None:
    sent = fields(**changed)
    assert validator({"$ref": "#/components/schemas/InventoryUpdate"}).is_valid(sent) == valid
    assert (await push.one(**sent)).status == (202 if valid else 422)
