"""The checker takes what is right, however calls overlap, and refuses what is not: each kind of wrong, planted once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from schemas.reservations import COMMITTED, HELD, RELEASED, SOLD_OUT
from tests.linearizability import history, porcupine
from tests.linearizability.calls import RESERVE
from tests.linearizability.history import Attempt, Decided, Record, Stocked
from tests.linearizability.imagined import Clients, Writer
from tests.linearizability.porcupine import ILLEGAL, OK, Verdict
from tests.linearizability.wrong import WRONG, Wrong

SOME_TIME = "2026-11-21T09:45:00.000Z"
SEARCH_S = 15.0  # what is not found by then is not found in a minute either


def judged(checker: Path, folder: Path, records: Iterable[Record]) -> Verdict:
    path = folder / "history.ndjson"
    history.write(records, path)
    [verdict] = porcupine.judge(checker, path, window_s=SEARCH_S)
    return verdict


@pytest.mark.parametrize("seed", range(8))
def test_what_was_decided_one_by_one_is_linearizable_however_calls_overlap_and_outcomes_stay_unknown(
    checker: Path, tmp_path: Path, seed: int
) -> None:
    records = Clients(seed, Writer()).records
    verdict = judged(checker, tmp_path, records)
    assert (verdict.result, verdict.searched, verdict.why) == (OK, False, [])
    assert verdict.doubtful > 5
    alone = judged(checker, tmp_path, [one for one in records if not isinstance(one, Decided)])
    assert (alone.result, alone.searched) == (OK, True)


@pytest.mark.parametrize("wrong", WRONG)
def test_each_kind_of_wrong_is_refused_where_it_could_be_seen(
    checker: Path, tmp_path: Path, wrong: type[Wrong]
) -> None:
    refused = 0
    for seed in range(8):
        writer = wrong()
        verdict = judged(checker, tmp_path, Clients(seed, writer).records)
        refused += verdict.result == ILLEGAL
        assert writer.planted_at or verdict.result == OK, (seed, verdict)
    assert refused >= 2


def asked(call: int, between: tuple[int, int], status: int, key: str, told: dict[str, Any], **more: Any) -> Attempt:
    fields: dict[str, Any] = {
        "client": call,
        "api": "api",
        "sku": "s",
        "action": RESERVE,
        "order": key,
        "quantity": 1,
    } | more
    called, returned = (ms * 1_000_000 for ms in between)
    return Attempt(
        call=call, key=key, called=called, returned=returned, status=status, told=told, expires_s=14_400, **fields
    )


def reserved(call: int, between: tuple[int, int], key: str, expires_at: str | None = SOME_TIME, **more: Any) -> Attempt:
    told = {"reserved_quantity": 1, "reservation_id": f"id-{key}", "expires_at": expires_at} | more.pop("told", {})
    return asked(call, between, 201, key, told, **more)


def refused(call: int, between: tuple[int, int], key: str, left: int = 0) -> Attempt:
    told = {"code": SOLD_OUT, "lines": [{"sku": "s", "left": left}]}
    return asked(call, between, 409, key, told, quantity=left + 1)


def in_conflict(call: int, between: tuple[int, int], key: str) -> Attempt:
    return asked(call, between, 409, key, {"code": "IDEMPOTENCY_CONFLICT"}, quantity=2)


def unheard(call: int, between: tuple[int, int], key: str) -> Attempt:
    return asked(call, between, 0, key, {})


def change(call: int, between: tuple[int, int], of: str, action: str, key: str = "", **answered: Any) -> Attempt:
    """A change of the reservation that was made with the key `of`, by a key of its own."""
    fields: dict[str, Any] = {"status": 0, "told": {}, "quantity": 0} | answered
    status, told = fields.pop("status"), fields.pop("told")
    more = {"action": action, "reservation": f"id-{of}", "order": ""} | fields
    return asked(call, between, status, key or f"{action}-{call}", told, **more)


def changed(
    call: int, between: tuple[int, int], of: str, action: str, state: str, units: tuple[int, int], **more: Any
) -> Attempt:
    """One that was carried out; `units`: open, and shipped."""
    line = {"quantity": 1, "reserved_quantity": 1, "open_quantity": units[0], "fulfilled_quantity": units[1]}
    expires_at = SOME_TIME if state == HELD else None
    told = {"reservation_id": f"id-{of}", "state": state, "expires_at": expires_at, "lines": [line]}
    return change(call, between, of, action, status=200, told=told, **more)


def given_back(call: int, between: tuple[int, int], key: str) -> Attempt:
    return changed(call, between, key, "release", RELEASED, (0, 0))


A, B, C, D = (0, 10), (20, 30), (40, 50), (60, 70)
WHOLE = (0, 70)
NOT_YET: dict[str, Any] = {"code": "INVALID_STATE", "state": HELD, "open": 1}
"""Why what is not committed cannot be shipped."""
SMALL: dict[str, tuple[str, list[Attempt]]] = {
    "one has the last unit": (OK, [reserved(1, A, "a"), refused(2, B, "b")]),
    "two have the last unit": (ILLEGAL, [reserved(1, A, "a"), reserved(2, B, "b")]),
    "of two at once one has it": (OK, [refused(1, A, "a"), reserved(2, (5, 15), "b")]),
    "refused before anybody has it": (ILLEGAL, [refused(1, A, "a"), reserved(2, B, "b")]),
    "what is given back can be had": (OK, [reserved(1, A, "a"), given_back(2, B, "a"), reserved(3, C, "b")]),
    "what is given back is lost": (ILLEGAL, [reserved(1, A, "a"), given_back(2, B, "a"), refused(3, C, "b")]),
    "a repeat is answered as the call": (OK, [reserved(1, A, "a"), refused(2, B, "b"), reserved(3, C, "a")]),
    "a repeat is refused": (ILLEGAL, [reserved(1, A, "a"), refused(2, B, "a")]),
    "a refused key has it later": (
        ILLEGAL,
        [reserved(1, A, "a"), refused(2, B, "b"), given_back(3, C, "a"), reserved(4, D, "b")],
    ),
    "a repeat is told the end": (OK, [reserved(1, A, "a"), given_back(2, B, "a"), reserved(3, C, "a", None)]),
    "a repeat is told what was": (ILLEGAL, [reserved(1, A, "a"), given_back(2, B, "a"), reserved(3, C, "a")]),
    "what was not heard of has it": (OK, [unheard(1, A, "a"), refused(2, B, "b"), refused(3, C, "c")]),
    "what was not heard of came late": (OK, [unheard(1, A, "a"), refused(2, B, "b", 1), refused(3, C, "c")]),
    "what was not heard of came never": (OK, [unheard(1, A, "a"), reserved(2, B, "b"), refused(3, C, "c")]),
    "what was not heard of went again": (ILLEGAL, [unheard(1, A, "a"), refused(2, B, "b"), reserved(3, C, "c")]),
    "a call without an end has it": (OK, [reserved(1, WHOLE, "a"), refused(2, B, "b"), refused(3, C, "c")]),
    "fewer are left than are told": (ILLEGAL, [refused(1, A, "a", 2)]),
    "more are left than are told": (ILLEGAL, [refused(1, A, "a", 0)]),
    "what is left is told": (OK, [refused(1, A, "a", 1)]),
    "a key is used for something else": (OK, [reserved(1, A, "a"), in_conflict(2, B, "a")]),
    "a key is used for something else, and nobody says so": (
        ILLEGAL,
        [reserved(1, A, "a"), reserved(2, B, "a", quantity=2)],
    ),
    "two calls are told one reservation": (
        ILLEGAL,
        [reserved(1, A, "a"), given_back(2, B, "a"), reserved(3, C, "b", told={"reservation_id": "id-a"})],
    ),
    "a repeat is told another reservation": (
        ILLEGAL,
        [reserved(1, A, "a"), reserved(2, B, "a", told={"reservation_id": "id-b"})],
    ),
    "it is shipped after its commit": (
        OK,
        [
            reserved(1, A, "a"),
            changed(2, B, "a", "commit", COMMITTED, (1, 0)),
            changed(3, C, "a", "fulfil", "FULFILLED", (0, 1)),
            refused(4, D, "b"),
        ],
    ),
    "it is shipped before its commit": (
        ILLEGAL,
        [reserved(1, A, "a"), changed(2, B, "a", "fulfil", "FULFILLED", (0, 1))],
    ),
    "a commit leaves it held": (ILLEGAL, [reserved(1, A, "a"), changed(2, B, "a", "commit", HELD, (1, 0))]),
    "a commit loses its unit": (ILLEGAL, [reserved(1, A, "a"), changed(2, B, "a", "commit", COMMITTED, (0, 0))]),
    "of a commit and a release at once each tells how it stands in the end": (
        OK,
        [
            reserved(1, A, "a"),
            changed(2, B, "a", "commit", RELEASED, (0, 0)),
            changed(3, (19, 31), "a", "release", RELEASED, (0, 0)),
        ],
    ),
    "a commit tells a release that came after it was answered": (
        ILLEGAL,
        [
            reserved(1, A, "a"),
            changed(2, B, "a", "commit", RELEASED, (0, 0)),
            changed(3, C, "a", "release", RELEASED, (0, 0)),
        ],
    ),
    "what was given back is told to have lapsed": (
        ILLEGAL,
        [reserved(1, A, "a"), changed(2, B, "a", "release", "EXPIRED", (0, 0))],
    ),
    "the key of a change is used for something else": (
        OK,
        [
            reserved(1, A, "a"),
            changed(2, B, "a", "release", RELEASED, (0, 0), quantity=1, key="k"),
            change(3, C, "a", "release", status=409, told={"code": "IDEMPOTENCY_CONFLICT"}, quantity=2, key="k"),
        ],
    ),
    "the key of a change is used for something else, and nobody says so": (
        ILLEGAL,
        [
            reserved(1, A, "a"),
            changed(2, B, "a", "release", RELEASED, (0, 0), quantity=1, key="k"),
            changed(3, C, "a", "release", RELEASED, (0, 0), quantity=2, key="k"),
        ],
    ),
    "a repeat is refused for what was so at the first attempt alone": (
        ILLEGAL,
        [
            reserved(1, A, "a"),
            change(2, (12, 13), "a", "fulfil"),
            changed(3, B, "a", "commit", COMMITTED, (1, 0)),
            change(2, C, "a", "fulfil", status=409, told={"code": "INVALID_STATE", "state": COMMITTED, "open": 1}),
        ],
    ),
    "a repeat is told why the first attempt was refused, which nobody heard of": (
        OK,
        [
            reserved(1, A, "a"),
            change(2, (12, 13), "a", "fulfil"),
            changed(3, B, "a", "commit", COMMITTED, (1, 0)),
            change(2, C, "a", "fulfil", status=409, told=NOT_YET),
        ],
    ),
    "what was refused is told so ever after": (
        OK,
        [
            reserved(1, A, "a"),
            change(2, (12, 13), "a", "fulfil", key="k", status=409, told=NOT_YET),
            changed(3, B, "a", "commit", COMMITTED, (1, 0)),
            change(4, C, "a", "fulfil", key="k", status=409, told=NOT_YET),
        ],
    ),
    "what was refused is told so ever after, also if nobody heard of it": (
        OK,
        [
            reserved(1, A, "a"),
            change(2, (12, 13), "a", "fulfil", key="k"),
            changed(3, B, "a", "commit", COMMITTED, (1, 0)),
            change(4, C, "a", "fulfil", key="k", status=409, told=NOT_YET),
        ],
    ),
    "what was refused is carried out by a repeat": (
        ILLEGAL,
        [
            reserved(1, A, "a"),
            change(2, (12, 13), "a", "fulfil", key="k", status=409, told=NOT_YET),
            changed(3, B, "a", "commit", COMMITTED, (1, 0)),
            changed(4, C, "a", "fulfil", "FULFILLED", (0, 1), key="k"),
        ],
    ),
    "what was refused is refused for another reason": (
        ILLEGAL,
        [
            reserved(1, A, "a"),
            change(2, (12, 13), "a", "fulfil", key="k", status=409, told=NOT_YET),
            given_back(3, B, "a"),
            change(4, C, "a", "fulfil", key="k", status=409, told=NOT_YET | {"state": RELEASED, "open": 0}),
        ],
    ),
    "a first attempt comes when its repeat has been refused, and is carried out": (
        ILLEGAL,
        [
            reserved(1, A, "a"),
            change(2, (12, 13), "a", "fulfil"),
            change(2, (14, 15), "a", "fulfil", status=409, told=NOT_YET),
            changed(3, B, "a", "commit", COMMITTED, (1, 0)),
            changed(4, C, "a", "commit", "FULFILLED", (0, 1)),
        ],
    ),
    "a call without an end has it too late": (ILLEGAL, [reserved(1, C, "a"), reserved(2, WHOLE, "b")]),
}


@pytest.mark.parametrize("name", SMALL)
def test_a_small_history_is_judged_as_it_should_be(checker: Path, tmp_path: Path, name: str) -> None:
    result, attempts = SMALL[name]
    stock = Stocked(sku="s", units=1, called=-20, returned=-10)
    assert judged(checker, tmp_path, [stock, *attempts]).result == result
