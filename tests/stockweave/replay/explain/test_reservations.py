"""What reservations have of a number: now beside the live row, and as it was decided up to a time."""

from __future__ import annotations

import io
import time

import pytest
from msgspec.structs import replace
from rich.console import Console

from inventory.availability import availability
from inventory.policies import Policies
from inventory.reservations.facts import hold_after
from inventory.reservations.reserved import of_holds
from schemas.reservations import Hold
from schemas.rows import encode_row
from stockweave.replay.checkpoint.trim import delete, planned
from stockweave.replay.explain.explain import Explained, Explainer
from stockweave.replay.explain.report import as_json, report
from tests.deployment import Deployment, drive_events
from tests.stockweave.replay.checkpoint.running import made
from tests.stockweave.replay.rebuild.rebuilt import settings_of
from tests.stockweave.replay.reserved import (
    SKUS,
    again,
    counts,
    decide,
    drawn,
    forget,
    partition_of,
    reserved,
    tamper,
    working,
)

NAMES = [f"sku-{i}" for i in range(SKUS)]


def printed(found: Explained, *, everything: bool = False) -> str:
    out = Console(file=io.StringIO(), width=110, highlight=False, markup=False, emoji=False)
    for part in report(found, everything=everything):
        out.print(part, soft_wrap=isinstance(part, str))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_the_number_is_that_of_the_live_row_and_every_fact_of_the_sku_is_told(deployment: Deployment) -> None:
    reserved(deployment)
    seen, facts = deployment.stock(), deployment.facts()
    with Explainer(settings_of(deployment)) as explainer:
        for sku in NAMES:
            found = explainer.explain(sku)
            assert found.row is not None
            assert found.answer is not None
            assert found.beside is not None
            assert (found.beside.same, found.row.reserved) == (True, seen.rows[sku].reserved)
            due = availability(seen.rows[sku], Policies().rules(sku), found.at_ms)
            assert (found.answer.available, found.answer.reserved) == (due.available, due.reserved)
            own = [fact for fact in facts if fact["sku"] == sku]
            assert [one.fact for one in found.reservations.facts] == own
            said = as_json(found)
            assert said["reserved"] == due.reserved == sum(e["units"] for e in said["reservations"]["reserved"])
            assert [fact["number"] for fact in said["reservations"]["facts"]] == [f["number"] for f in reversed(own)]
            text = printed(found, everything=True)
            assert f", {due.reserved:,} reserved, at " in text.splitlines()[0]
            assert text.count("held ") >= sum(fact["fact"] == "HELD" for fact in own)
            assert f"reservations: {len(own)} facts in {found.reservations.topic}, newest first" in text


def test_what_rows_keep_of_forgotten_reservations_is_reserved_also_where_their_ids_are_held_anew(
    deployment: Deployment,
) -> None:
    reserved(deployment)
    before = forget(deployment)
    gone = before.holds.keys() - deployment.stock().holds.keys()
    with working(deployment) as engine:
        decide(engine, deployment, again(gone))
    seen = deployment.stock()
    with Explainer(settings_of(deployment)) as explainer:
        for sku in NAMES:
            found = explainer.explain(sku)
            assert found.row is not None
            assert found.beside is not None
            assert (found.beside.same, found.row.reserved) == (True, seen.rows[sku].reserved)
            open_ids = {hold.reservation_id for hold in found.reservations.open}
            assert open_ids == {h.reservation_id for h in seen.holds.values() if h.sku == sku and h.ended_at is None}


def test_a_row_that_has_something_else_reserved_is_another(deployment: Deployment) -> None:
    reserved(deployment)
    seen = deployment.stock()
    sku = next(sku for sku in NAMES if seen.rows[sku].reserved)
    row, number = seen.rows[sku], partition_of(deployment, sku)
    source, entries = next(iter(row.reserved.items()))
    row.reserved[source] = [replace(entries[0], units=entries[0].units + 1), *entries[1:]]
    tamper(deployment, {sku.encode(): encode_row(row)}, number, seen.positions[number])
    with Explainer(settings_of(deployment)) as explainer:
        found = explainer.explain(sku)
    assert found.beside is not None
    assert found.beside.same is False
    assert f"and {seen.positions[number].facts:,} facts of reservations, is another: " in printed(found)


@pytest.mark.parametrize("trimmed", [False, True])
def test_as_of_a_time_what_was_decided_until_then_is_reserved(deployment: Deployment, *, trimmed: bool) -> None:
    """Also where a checkpoint, which has what was decided later, is all that there is of the updates."""
    settings = settings_of(deployment)
    deployment.publish(counts())
    with working(deployment) as engine:
        drive_events(engine, 2 * SKUS)
        checkpoint = made(deployment, verify=True)
        time.sleep(0.01)
        for seed in range(3):
            decide(engine, deployment, drawn(seed, 40))
        if trimmed:
            checkpoint = made(deployment, verify=True)
            cuts = planned(settings, deployment.topics, checkpoint)
            delete(settings, deployment.topics["inventory.updates"].name, {n: c.offset for n, c in cuts.items()})
    facts = deployment.facts()
    times = sorted({fact["decided_at"] for fact in facts})
    with Explainer(settings) as explainer:
        for at_ms in times[:: max(1, len(times) // 6)]:
            for sku in NAMES[:3]:
                found = explainer.explain(sku, at_ms)
                holds: dict[str, Hold] = {}
                for fact in facts:
                    if fact["sku"] == sku and fact["decided_at"] <= at_ms:
                        holds[fact["reservation_id"]] = hold_after(holds.get(fact["reservation_id"]), fact)
                assert found.row is not None
                sources = {key: source.count for key, source in found.row.sources.items()}
                assert found.row.reserved == of_holds(holds.values(), sources)
                assert found.reservations.holds == holds
