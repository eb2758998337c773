"""For schemathesis: how lines are drawn and sent, and the four checks that ask what no OpenAPI document can say.

Every other check runs as it is. These run as well, and pass over just the refusals that are listed here, by the
problem's reason and what it says. Loaded by schemathesis itself, by the name in SCHEMATHESIS_HOOKS.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
import schemathesis
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    negative_data_rejection,
    positive_data_acceptance,
)

NDJSON = "application/x-ndjson"
BEYOND_A_SCHEMA = tuple(
    re.compile(pattern)
    for pattern in (
        "observed_in_future: .* ahead of the service's clock",  # no schema knows the time
        "not_an_integer: .*",  # for JSON Schema 5.0 is an integer; here it is a fraction, for units are whole
        r"invalid_timestamp: \S+ is neither RFC 3339 nor a whole number",  # likewise
        r"invalid_timestamp: \S+ is (before the year 2000|after the year 9999)",  # by its offset from UTC
        "invalid_timestamp: .* a day or an hour that does not exist",  # leap seconds are times to RFC 3339
        "invalid_id: .* is not NFC-normalised",  # no pattern can tell
        "invalid_id: .* has 1[23][0-9] characters",  # which it has in its composed form
        "invalid_token: .*; send the token that a write returned",  # it names a partition that there is not
        "invalid_cursor: .* not one that a page gave",
        "invalid_parameter: .* is for the list; leave out either it or sku",  # parameters that exclude one another
    )
)

_UPDATE = {"sku": "a", "quantity": 1, "timestamp": "2026-01-05T09:00:00Z", "updateId": "u"}
_line = st.one_of(
    st.just(orjson.dumps(_UPDATE)),
    st.builds(lambda name, value: orjson.dumps({**_UPDATE, name: value}), st.sampled_from([*_UPDATE, "kind", "x"]),
              st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.text(st.characters(codec="utf-8")))),
    st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")),
)  # fmt: skip
schemathesis.openapi.media_type(NDJSON, st.lists(_line, min_size=1, max_size=5).map(b"\n".join))


@schemathesis.serializer(NDJSON)
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.check
def valid_data_is_taken(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """`positive_data_acceptance`, but for what is `BEYOND_A_SCHEMA`, and for lines, which are text to a schema."""
    try:
        positive_data_acceptance(ctx, response, case)
    except Failure:
        if case.media_type != NDJSON and not _beyond(response):
            raise


@schemathesis.check
def invalid_data_is_refused(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """`negative_data_rejection`, but for a batch, which is refused entry by entry: the answer must list what is."""
    try:
        negative_data_rejection(ctx, response, case)
    except Failure:
        told = response.json()
        results = told.get("results", ())
        if not (response.status_code == 207 and told["rejected"]) and all(r["status"] != 422 for r in results):
            raise


@schemathesis.check
def allowed_methods_are_described(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """`allow_header_conformance`, but for a path that is also the one of a row, of a SKU that is called so."""
    try:
        allow_header_conformance(ctx, response, case)
    except Failure:
        if case.path != "/api/v1/inventory/reserve" or response.headers["allow"] != ["GET,HEAD,POST"]:
            raise


@schemathesis.check
def no_server_error(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """`not_a_server_error`, but for the 503 of a read that asked for a write which is still to come."""
    try:
        not_a_server_error(ctx, response, case)
    except Failure:
        if response.status_code != 503 or "the view has not passed min_offset" not in response.json()["detail"]:
            raise


def _beyond(response: schemathesis.Response) -> bool:
    """Whether every fault that is told is one that no schema rules out."""
    problem = response.json()
    faults = problem.get("errors") or [problem]
    return all(any(p.match(f"{f['reason']}: {f['detail']}") for p in BEYOND_A_SCHEMA) for f in faults)
