"""The API as it is served, read and push routes together, under requests that mean it no good."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockweave.broker.kafka import EmbeddedKafka
from tests.fuzz.requests import UPDATE, get, hostile, post, status
from tests.fuzz.served import Served

SEED = 20_261_121
GROWTH_BYTES_MAX = 64 << 20


@pytest.fixture(scope="module")
def served(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(broker.bootstrap_servers, tmp_path_factory.mktemp("served")) as started:
        yield started


def test_every_check_of_schemathesis_holds_for_the_served_description(served: Served, tmp_path: Path) -> None:
    found = served.conform(SEED, 5, tmp_path)
    assert not found.failures, found.failures
    assert found.cases > 300
    assert not served.defects()


def test_no_request_however_broken_is_answered_500_or_takes_memory(served: Served) -> None:
    answered: Counter[int | None] = Counter()
    hostile(served.port, lambda code: answered.update([code]))(random.Random(SEED), 50)
    before_bytes = served.memory_bytes()
    hostile(served.port, lambda code: answered.update([code]))(random.Random(SEED + 1), 500)
    assert served.memory_bytes() - before_bytes < GROWTH_BYTES_MAX
    assert {200, 202, 207, 400, 404, 415, 422} <= set(answered), answered
    assert served.ready()
    assert not served.defects()


ONE = b"acme/inventory-update"


@pytest.mark.parametrize(
    ("request_bytes", "code"),
    [
        # Each was 500: what a header holds may be no UTF-8, and was told back in JSON.
        (post(ONE, b"{}", "", b"Content-Type: \xff"), 415),
        (post(ONE, b"{}", "application/json", b"Content-Encoding: \xff"), 415),
        (get(b"/docs", b"Host: \xff<script>"), 200),
        (get(b"/metrics", b"Accept: text/plain;version=1.x.0"), 200),
        (get(b"/metrics", b"Accept: application/openmetrics-text; version=a; escaping=\xff"), 200),
        (post(ONE, b"{}", "application/json", b"Expect: \xff"), 417),
        (post(ONE, b"{}", "application/json", b"Expect: 100-continue"), 100),
        (get(b"/docs", b"Expect: tea"), 417),
        (post(ONE, b'{"sku": "' + b"9" * 70_000 + b'"}'), 413),
        (post(ONE, b"[" * 60_000), 400),
        (post(ONE, b'{"sku": "\\ud800"}'), 400),
        (post(ONE, b'{"quantity": ' + b"9" * 5_000 + b"}"), 400),
        (post(ONE, b'{"quantity": 1e999, "{ge}": 1}'), 422),
        (post(b"%ff%00/inventory-update", b"{}"), 422),
        (get(b"/api/v1/inventory?sku=%ff"), 404),
        (get(b"/api/v1/inventory?updated_since=0001-01-01T00:00:00%2B23:59"), 200),
        (get(b"/api/v1/inventory?updated_since=2026-01-01t00:00:00z"), 200),
        (get(b"/api/v1/inventory?min_offset=0-999999999999999999"), 503),
    ],
)
def test_what_once_ended_in_a_500_or_might_is_answered_for_what_it_is(
    served: Served, request_bytes: bytes, code: int
) -> None:
    assert status(served.port, request_bytes) == code
    assert status(served.port, get(b"/api/v1/inventory?sku=milk")) == 200


def test_a_request_that_breaks_off_ends_with_its_connection(served: Served) -> None:
    whole = post(ONE, str(UPDATE).encode())
    for end in (3, 40, len(whole) - 5):
        assert status(served.port, whole[:end]) in (None, 400)
    assert served.ready()
    assert not served.defects()
