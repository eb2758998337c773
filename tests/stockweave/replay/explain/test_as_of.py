"""As of any time a row is what the tests' own reference makes of the log that Kafka had then."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from inventory.stock import Limits
from schemas.keys import partition_of
from schemas.rows import OUTCOMES, StockRow
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal
from stockweave.replay.checkpoint.load import Checkpoint
from stockweave.replay.explain import explain as module
from stockweave.replay.explain.command import run
from stockweave.replay.explain.explain import Explained, Explainer
from streams.batch import Folder
from tests.deployment import Deployment
from tests.inventory.builders import row_of
from tests.stockweave.replay.checkpoint.running import delete_updates, made
from tests.stockweave.replay.explain.messages import accounts_of
from tests.stockweave.replay.explain.told import ENTRIES_MAX, Due, Told, awkward_updates, due, log_of
from tests.stockweave.replay.rebuild.rebuilt import settings_of
from tests.stockweave.replay.rebuild.writer import Writer

ROUND = 20
SKUS = 8


@pytest.fixture(scope="module")
def told(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, list[Told]]:
    """A deployment whose log was written in rounds that have stamps of their own, and that log."""
    deployment = new(broker, tmp_path_factory.mktemp("told"))
    publish(deployment, 600)
    return deployment, log_of(deployment)


def new(broker: EmbeddedKafka, folder: Path) -> Deployment:
    deployment = Deployment(broker.bootstrap_servers, folder, partitions=2)
    deployment.base = deployment.base.model_copy(update={"entries_max": ENTRIES_MAX})
    return deployment


def publish(deployment: Deployment, count: int, first: int = 0) -> None:
    updates = awkward_updates(count, SKUS, first=first)
    for i in range(0, count, ROUND):
        deployment.publish(updates[i : i + ROUND])
        deployment.publish_raw(updates[i]["sku"].encode(), b"no update", flush=False)
        deployment.publish_raw(b"sku-0", deployment.codec.encode(dict(updates[i]) | {"sku": "sku-1"}))
        time.sleep(0.005)


def sources_of(row: StockRow | None) -> dict[tuple[str, str], dict[str, Any]]:
    """What a row's sources mean, in the words of the reference."""
    found = {}
    for key, source in (row.sources if row else {}).items():
        supplier, _, location = key.partition("\x1f")
        said = {
            "basis": ("ON_HAND", "AVAILABLE")[source.basis],
            "incoming": [{"expected_at": r.expected_at, "quantity": r.quantity} for r in source.incoming],
            "stale_after_ms": source.stale_after_ms,
        }
        found[supplier, location] = row_of(source) | said
    return found


def offsets_of(found: Explained) -> dict[tuple[str, str], dict[tuple[bool, str], int | None]]:
    """Where what the sources hold came from."""
    return {
        (account.supplier, account.location): {
            (entry.kind == "delta", entry.id): None if entry.trace is None else entry.trace.offset
            for entry in [*([account.count] if account.count else []), *account.deltas]
        }
        for account in accounts_of(found)
    }


def test_as_of_any_time_a_row_is_the_references_over_the_prefix(told: tuple[Deployment, list[Told]]) -> None:
    deployment, log = told
    first, last = min(t.stamp_ms for t in log), max(t.stamp_ms for t in log)
    rng = random.Random(4)
    seen: set[str] = set()
    wanted: dict[tuple[str, int], Due] = {}
    with Explainer(deployment.base) as explainer:
        for i in range(SKUS):
            explainer.explain(f"sku-{i}")
        for _ in range(1_000):
            sku, at = f"sku-{rng.randrange(SKUS)}", rng.randint(first - 5, last + 5)
            prefix = sku, sum(t.stamp_ms <= at for t in log if t.key == sku.encode())
            if prefix not in wanted:
                wanted[prefix] = due(log, sku, at)
            want, found = wanted[prefix], explainer.explain(sku, at)
            assert sources_of(found.row) == want.sources, (sku, at)
            assert (found.row.on_hand if found.row else 0) == want.on_hand, (sku, at)
            assert dict(zip(OUTCOMES, found.history.outcomes, strict=True)) == {o: want.outcomes[o] for o in OUTCOMES}
            assert [(r.offset, r.outcome) for r in found.history.refused] == want.refused[-10:], (sku, at)
            for name, offsets in offsets_of(found).items():
                assert offsets.items() <= want.offsets[name].items(), (sku, at, name)
            seen |= {refused.reason for refused in found.history.refused}
    assert seen >= {
        "duplicate", "superseded", "update_id_conflict", "too_old", "observed_in_future", "invalid_update",
        "key_is_not_sku", "not_framed",
    }  # fmt: skip


def test_messages_beyond_a_bound_are_not_kept_and_the_answer_is_the_same(
    told: tuple[Deployment, list[Told]], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, log = told
    monkeypatch.setattr(module, "SCAN_EVENTS_MAX", 50)
    want = due(log, "sku-3")
    for bytes_max, kept in ((20_000, False), (1 << 20, True)):
        monkeypatch.setattr(module, "KEPT_BYTES_MAX", bytes_max)
        with Explainer(deployment.base) as explainer:
            found = explainer.explain("sku-3")
            assert (b"sku-3" in explainer._kept) == kept
            assert sources_of(found.row) == want.sources
            assert found.history.outcomes == [want.outcomes[outcome] for outcome in OUTCOMES]


def command(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As an engineer runs it."""
    return subprocess.run(
        [sys.executable, "-m", "stockweave", "explain", *arguments],
        env=deployment.environment("engineer") | {"STOCKWEAVE_ENTRIES_MAX": str(ENTRIES_MAX)},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def checked(deployment: Deployment, log: list[Told], sku: str, at: int, *, seeded: bool = False) -> dict[str, Any]:
    """The answer of the command for a time, held against the reference."""
    done = command(deployment, sku, "--as-of", str(at), "--json")
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    want = due(log, sku, at)
    start = said["updates"]["start"]
    found = {}
    for source in said["sources"]:
        name = source["supplier"], source["location"]
        count, deltas = source["count"], source["deltas"]
        held = {"observed_at", "quantity"}
        row = {
            "count": count and [count["kind"].upper(), count["update_id"], *(count[key] for key in sorted(held))],
            "deltas": [[d["update_id"], d["observed_at"], d["quantity"]] for d in deltas],
            "on_hand": source["on_hand"],
            "anchored": count is not None,
        }
        if source["floor_at"] is not None:
            row |= {"carried": source["carried"], "floor_at": source["floor_at"]}
        row |= {"basis": source["basis"], "incoming": source["incoming"], "stale_after_ms": source["stale_after_ms"]}
        found[name] = row
        for entry in [*([count] if count else []), *deltas]:
            offset = want.offsets[name][entry["kind"] == "delta", entry["update_id"]]
            assert entry["offset"] == offset or (entry["offset"] is None and offset < start), (name, entry)
    assert found == want.sources
    assert (said["on_hand"] or 0, said["checkpoint"] is not None) == (want.on_hand, seeded)
    return said


def test_the_command_answers_pairs_as_the_reference_does(told: tuple[Deployment, list[Told]]) -> None:
    deployment, log = told
    stamps = sorted(t.stamp_ms for t in log)
    pairs = [("sku-1", stamps[len(stamps) // 4]), ("sku-2", stamps[len(stamps) // 2]), ("sku-5", stamps[-1]),
             ("sku-0", stamps[-200] - 1)]  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda pair: checked(deployment, log, *pair), pairs))
    assert all(answer["on_hand"] is not None and answer["refused"] for answer in answers)


def test_a_trimmed_log_is_explained_from_its_checkpoint_on(broker: EmbeddedKafka, tmp_path: Path) -> None:
    deployment = new(broker, tmp_path)
    publish(deployment, 300)
    checkpoint = folded_into_checkpoint(deployment)
    ends = {part.partition: part.offset for part in checkpoint.manifest.partitions}
    publish(deployment, 100, first=300)
    log = log_of(deployment)
    delete_updates(deployment, ends)
    after = [t for t in log if t.offset >= ends[t.partition]]
    at = sorted(t.stamp_ms for t in after)[len(after) // 2]
    said = checked(deployment, log, "sku-3", at, seeded=True)
    assert said["checkpoint"] == checkpoint.name
    number = partition_of(b"sku-3", 2)
    assert said["updates"]["start"] == ends[number]
    taken = sum(said["updates"][outcome] for outcome in OUTCOMES)
    assert taken == sum(t.key == b"sku-3" and t.stamp_ms <= at for t in after) > 0
    entries = [e for s in said["sources"] for e in [*([s["count"]] if s["count"] else []), *s["deltas"]]]
    assert {e["offset"] is None for e in entries} == {True, False}
    settings = settings_of(deployment)
    with Explainer(settings) as explainer:
        for sku in ("sku-0", "sku-4", "sku-5"):  # at the end of the log
            assert sources_of(explainer.explain(sku).row) == due(log, sku).sources
        with pytest.raises(Fatal, match=r"begins at offset .* no checkpoint covers .* a later --as-of"):
            explainer.explain("sku-3", log[0].stamp_ms)


def folded_into_checkpoint(deployment: Deployment) -> Checkpoint:
    writer = Writer(deployment)
    writer.folder = Folder(deployment.codec, Limits(entries_max=ENTRIES_MAX), 2)
    writer.fold(50)
    return made(deployment)


def test_before_the_first_update_the_command_says_so(
    told: tuple[Deployment, list[Told]], capsys: pytest.CaptureFixture[str]
) -> None:
    deployment, log = told
    run(settings_of(deployment), "sku-1", "2020-02-29T12:00:00+01:00", everything=False, json=False)
    first = min(t.stamp_ms for t in log if t.key == b"sku-1")
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(first // 1000)) + f".{first % 1000:03} UTC"
    assert capsys.readouterr().out.splitlines()[0] == (
        f"sku-1: nothing was known of it at 2020-02-29 11:00:00.000 UTC; its first update came at {when}"
    )


def test_an_unknown_sku_is_told_in_a_line(told: tuple[Deployment, list[Told]]) -> None:
    done = command(told[0], "SKU-1")
    assert (done.returncode, done.stdout) == (os.EX_DATAERR, "")
    assert done.stderr.splitlines()[-1].startswith("stockweave: SKU 'SKU-1' is unknown: no update in ")
