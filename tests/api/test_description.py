"""The description, the page made from it, and the metrics."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from jsonschema import Draft202012Validator
from prometheus_client import REGISTRY

from api import docs_page, openapi
from stockweave import metrics
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal
from tests.api.stock import Reader, Stock, row
from tests.api.test_suppliers import until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
async def reader(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Reader]:
    stock = Stock(broker.bootstrap_servers, tmp_path_factory.mktemp("docs"))
    stock.write(row("milk", acme=3))
    async with Reader(stock) as opened:
        await until(opened, "/api/v1/suppliers", 200)
        yield opened


async def test_every_route_is_described_and_every_description_has_a_route(reader: Reader) -> None:
    described = set((await reader.get("/openapi.json"))["paths"])
    app = reader.client.app
    assert isinstance(app, web.Application)
    served = {r.canonical for r in app.router.resources()} - {"/docs", "/openapi.json"}
    assert {re.sub(r"\{(\w+):.*\}", r"{\1}", path) for path in served} == described


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/inventory?sku=milk", 200),
        ("/api/v1/inventory?sku=milk,bread", 200),
        ("/api/v1/inventory", 200),
        ("/api/v1/inventory/milk", 200),
        ("/api/v1/inventory/bread", 404),
        ("/api/v1/inventory?limit=0", 422),
        ("/api/v1/stats", 200),
        ("/api/v1/suppliers", 200),
        ("/api/v1/suppliers/acme/health", 200),
        ("/api/v1/suppliers/nobody/health", 404),
        ("/healthz", 200),
        ("/readyz", 200),
    ],
)
async def test_what_is_answered_is_what_is_described(reader: Reader, path: str, status: int) -> None:
    document = await reader.get("/openapi.json")
    described = document["paths"][
        re.sub(r"\?.*", "", path)
        .replace("inventory/milk", "inventory/{sku}")
        .replace("inventory/bread", "inventory/{sku}")
        .replace("suppliers/acme", "suppliers/{supplier}")
        .replace("suppliers/nobody", "suppliers/{supplier}")
    ]
    async with reader.client.get(path) as response:
        assert response.status == status
        media = response.content_type
        answer = msgspec.json.decode(await response.read())
    schema = described["get"]["responses"][str(status)]["content"][media]["schema"]
    Draft202012Validator(strict(schema) | {"components": strict(document["components"])}).validate(answer)


async def test_the_page_fetches_nothing_from_anywhere(reader: Reader) -> None:
    async with reader.client.get("/docs") as response:
        assert response.status == 200
        page = await response.text()
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert not re.findall(r"(?:src|href|action)=\"(?!/|#)", page)
    assert "<script" not in page
    for path in ("/api/v1/inventory", "/api/v1/inventory/{sku}", "/readyz"):
        assert f"<code>{path}</code>" in page
    for name in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{name}"' in page, "a link leads nowhere"


def test_a_contribution_is_in_the_document_and_on_the_page() -> None:
    push = {
        "tags": [{"name": "push", "description": "What suppliers send."}],
        "paths": {
            "/api/v1/x": {
                "post": {
                    "tags": ["push"],
                    "operationId": "x",
                    "requestBody": {"content": {"application/json": {"example": {"sku": "<b>"}}}},
                    "responses": {"202": {"description": "Taken."}},
                }
            }
        },
        "components": {"schemas": {"Accepted": {"type": "object"}}},
    }
    document = openapi.document([push])
    assert "/api/v1/x" in document["paths"]
    assert "Accepted" in document["components"]["schemas"]
    page = docs_page.render(document, "http://x:1")
    assert "Taken." in page
    assert "<b>&quot;}" not in page
    assert "&lt;b&gt;" in page


def test_two_parts_that_describe_one_path_differently_are_refused() -> None:
    with pytest.raises(Fatal, match="/healthz"):
        openapi.document([{"paths": {"/healthz": {"get": {}}}}])


async def test_a_transaction_of_dead_letters_alone_is_no_time_to_visible(reader: Reader) -> None:
    stock = reader._stock
    await reader.item("milk", min_offset=stock.write(row("milk", version=2, acme=4)))
    before = visible_seconds()
    await reader.item("milk", min_offset=stock.dead_letter(0))
    assert visible_seconds() == before
    await reader.item("milk", min_offset=stock.duplicate(0))
    assert visible_seconds() > before


def visible_seconds() -> float:
    return sum(
        REGISTRY.get_sample_value(f"stockweave_ingest_to_visible_seconds_{part}") or 0 for part in ("count", "sum")
    )


async def test_metrics_tell_lag_events_requests_and_latency(reader: Reader) -> None:
    stock = reader._stock
    await reader.item("milk", min_offset=stock.write(row("milk", version=2, acme=4)))
    async with reader.client.get("/metrics") as response:
        text = await response.text()
    for line in (
        r'stockweave_view_lag_records\{partition="0"\} \d',
        r'stockweave_view_events\{outcome="applied"\} \d',
        r'stockweave_http_requests_total\{route="/api/v1/inventory",status="200"\} \d',
        r"stockweave_ingest_to_visible_seconds_count [1-9]",
        r"stockweave_view_records_total \d",
    ):
        assert re.search(line, text), line


def test_the_list_of_metrics_is_the_page_in_the_docs() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics.markdown()


def test_with_a_shared_folder_the_metrics_of_other_processes_are_told_too(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    work = "from stockweave import metrics; metrics.EVENTS_BY_OUTCOME[0].inc(3); metrics.LAG_EVENTS.labels('0').set(7)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", work], env=environment, check=True, cwd=ROOT)
    read = "import prometheus_client as p, api.system as s; print(p.generate_latest(s._registry()).decode())"
    told = subprocess.run(
        [sys.executable, "-c", read], env=environment, check=True, cwd=ROOT, capture_output=True, text=True
    ).stdout
    assert 'stockweave_events_total{outcome="applied"} 6.0' in told
    assert 'stockweave_lag_events{partition="0"} 7.0' in told


def strict(schema: object) -> dict[str, object]:
    """A schema in which what is not described is not allowed."""

    def close(part: object) -> object:
        if isinstance(part, list):
            return [close(item) for item in part]
        if not isinstance(part, dict):
            return part
        closed = {key: close(value) for key, value in part.items()}
        return (
            closed | {"additionalProperties": False}
            if "properties" in part and "RFC 9457" not in str(part.get("description"))
            else closed
        )

    made = close(schema)
    assert isinstance(made, dict)
    return made
