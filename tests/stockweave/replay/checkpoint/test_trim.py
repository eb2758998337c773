"""The log of updates may end at a checkpoint: what is refused, what is deleted, and how all goes on without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.generations import name_of
from schemas.rows import decode_row, encode_row
from schemas.topics import STOCK, UPDATES
from stockweave.errors import Fatal
from stockweave.replay.checkpoint import create, trim
from stockweave.replay.ends import log_ends
from stockweave.replay.rebuild import dry_run, rebuild
from stockweave.replay.rebuild.plan import Wanted
from stockweave.replay.verify import verify
from tests.deployment import Deployment, drive_events, expected_on_hand, some_updates
from tests.stockweave.replay.checkpoint.made import Shelf
from tests.stockweave.replay.checkpoint.running import made, shelf_of
from tests.stockweave.replay.planted import VICTIM, at, offset_of, story, without
from tests.stockweave.replay.rebuild.rebuilt import agree, on_hand, rebuilt, record, settings_of
from tests.stockweave.replay.rebuild.writer import Writer


def starts(deployment: Deployment) -> dict[int, int]:
    """Where the log of updates begins."""
    topic = deployment.topics[UPDATES.name].name
    return {p: low for p, (low, _) in log_ends(deployment.bootstrap_servers, topic, (0, 1)).items()}


def trimmed(deployment: Deployment, name: str | None = None) -> None:
    trim.run(settings_of(deployment), name, agree, dry_run=False)


def folded(deployment: Deployment, count: int = 600) -> Writer:
    deployment.publish(some_updates(count))
    writer = Writer(deployment)
    writer.fold(200)
    return writer


def command(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stockweave", *arguments],
        env=deployment.environment("engineer"), capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_a_trimmed_log_is_gone_on_from_by_every_command(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    updates = some_updates(2_000, skus=60)
    deployment.publish(updates[:1_200])
    writer = Writer(deployment)
    writer.fold(200)
    checkpoint = made(deployment, verify=True)
    offsets = {p.partition: p.offset for p in checkpoint.manifest.partitions}
    trim.run(settings_of(deployment), None, no, dry_run=True)
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"dry run: 1,200 offsets of updates below {checkpoint.name} would be deleted"
    assert starts(deployment) == {0: 0, 1: 0}
    with pytest.raises(Fatal, match=rf"1,200 offsets .* deleted for good.*only the checkpoint {checkpoint.address}"):
        trim.run(settings_of(deployment), None, no, dry_run=False)
    assert starts(deployment) == {0: 0, 1: 0}
    trimmed(deployment)
    assert starts(deployment) == offsets
    capsys.readouterr()
    trim.run(settings_of(deployment), checkpoint.name, no, dry_run=False)  # nothing is left to ask about
    assert "nothing to delete" in capsys.readouterr().out

    deployment.publish(updates[1_200:])
    writer.fold(200)
    right = expected_on_hand(updates)
    assert verify.run(settings_of(deployment), 1, thorough=True, verbose=False, json=True)
    told = capsys.readouterr()
    assert (json.loads(told.out)["from"], json.loads(told.out)["events"]) == (checkpoint.address, 800)
    assert f"beginning with the checkpoint {checkpoint.address}" in told.err.replace("\n", "")
    dry_run.run(settings_of(deployment), Wanted(), 1)
    assert "dry run: 0 of 60 rows would change; 800 updates were folded" in capsys.readouterr().out
    proof = made(deployment, verify=True).manifest.proof
    assert proof is not None
    assert (proof.begin, proof.updates) == (checkpoint.name, 800)
    now = rebuilt(deployment)
    assert on_hand(deployment, now.live.topic) == right
    assert verify.run(settings_of(deployment), 1, thorough=False, verbose=False, json=False)
    trimmed(deployment)
    assert sum(starts(deployment).values()) == 2_000
    deployment.publish(some_updates(100, seed=9))
    engine, identity = deployment.engine("w")  # a worker with an empty disk
    drive_events(engine, 100)
    engine.processor.close()
    identity.release()
    assert verify.run(settings_of(deployment), 1, thorough=False, verbose=False, json=False)


def no(text: str) -> None:
    raise Fatal(text)


def test_what_cannot_be_relied_on_is_not_trimmed_to(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = folded(deployment)
    with pytest.raises(Fatal, match=r"no checkpoint of this deployment is verified; .*create --verify"):
        trimmed(deployment)
    plain = made(deployment)
    with pytest.raises(Fatal, match=rf"{plain.name} is not verified"):
        trimmed(deployment, plain.name)
    shelf = Shelf(str(shelf_of(deployment)))
    proof = made(deployment, verify=True).manifest.proof
    stranger = shelf.put([[], []], [1, 1], proof=proof)
    with pytest.raises(Fatal, match=r"is not of this deployment: it is of the log inventory.updates \(id one\)"):
        trimmed(deployment, stranger.name)
    shelf.topics = deployment.topics
    at = [writer.positions[p].offsets[UPDATES.name] for p in (0, 1)]
    ahead = shelf.put([[], []], [at[0], at[1] + 1], proof=proof)
    with pytest.raises(
        Fatal, match=rf"partition 1: the checkpoint {ahead.name} stands at offset {at[1] + 1}, and the live"
    ):
        trimmed(deployment, ahead.name)
    with monkeypatch.context() as patch:
        patch.setattr(create, "rules_digest", lambda _: "of before")
        other = made(deployment, verify=True)
    with pytest.raises(Fatal, match=rf"{other.name} was verified by other rules"):
        trimmed(deployment, other.name)
    damaged = made(deployment, verify=True)
    path = Path(damaged.address) / "partition-00001.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(Fatal, match=r"partition-00001.parquet is damaged: its SHA-256"):
        trimmed(deployment, damaged.name)
    with pytest.raises(Fatal, match=r"/nothing/manifest.json is not there; `stockweave checkpoint list`"):
        trimmed(deployment, "nothing")
    assert starts(deployment) == {0: 0, 1: 0}


def test_no_log_is_trimmed_under_a_rebuild_and_the_way_back_that_closes_is_told(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = folded(deployment)
    now = rebuilt(deployment)
    deployment.publish(some_updates(100, seed=2))
    follower = Writer(deployment)
    follower.stock, follower.positions, follower.stores = now.live.topic, writer.positions, writer.stores
    follower.fold(200)
    checkpoint = made(deployment, verify=True)
    with pytest.raises(Fatal, match=r"The way back to generation 0 \(`stockweave rebuild --back`\) is then closed"):
        trim.run(settings_of(deployment), None, no, dry_run=False)
    with monkeypatch.context() as patch:
        patch.setattr(rebuild.Rebuild, "build", stop)
        with pytest.raises(KeyboardInterrupt):
            rebuilt(deployment)
    assert record(deployment).candidate is not None
    with pytest.raises(Fatal, match=r"generation 2 is being rebuilt and may need the updates; .*`--discard`"):
        trimmed(deployment, checkpoint.name)
    assert starts(deployment) == {0: 0, 1: 0}


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_wrong_row_is_explained_from_a_checkpoint_on(deployment: Deployment) -> None:
    updates = story()
    half = [u["update_id"] for u in updates].index("sale-5")
    deployment.publish(updates[:half])
    writer = Writer(deployment, at("sale-8", without("sale-8")))
    writer.fold(3)
    made(deployment, verify=True)
    trimmed(deployment)
    deployment.publish(updates[half:])
    writer.fold(3)
    done = command(deployment, "verify", "--json")
    assert done.returncode == os.EX_DATAERR, done.stderr
    said = json.loads(done.stdout)
    assert (said["differ"], said["first"]["sku"], said["first"]["update"]["update_id"]) == (1, VICTIM, "sale-8")
    assert (said["first"]["offset"], said["first"]["certain"]) == (offset_of(deployment, "sale-8")[1], True)
    assert (said["first"]["live"]["on_hand"], said["first"]["replayed"]["on_hand"]) == (31, 22)


def test_a_row_that_went_wrong_before_the_checkpoint_is_not_laid_to_an_update_after_it(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment.publish(story())
    writer = Writer(deployment)
    writer.fold(100)
    checkpoint = made(deployment)
    partition, _ = offset_of(deployment, "sale-4")
    row = decode_row(writer.stores[partition].rows[VICTIM.encode()])
    without("sale-4")(row.sources["acme\x1fdefault"])
    writer.write(partition, {VICTIM.encode(): encode_row(row)}, writer.positions[partition])
    settings = settings_of(deployment)
    assert not verify.run(settings, 1, thorough=False, verbose=False, json=False, checkpoint=checkpoint.name)
    start = checkpoint.manifest.partitions[partition].offset
    said = capsys.readouterr().out
    assert f"the replay begins with the checkpoint's row, at offset {start} of " in said
    assert f"no update of this SKU is in the log from offset {start} on" in said


def test_the_commands_name_the_remedy_where_no_checkpoint_is(deployment: Deployment) -> None:
    folded(deployment)
    elsewhere = made(deployment, verify=True, to=str(deployment.folder / "else where")).address
    refused = command(deployment, "checkpoint", "trim", elsewhere)
    assert refused.returncode == os.EX_CONFIG
    assert refused.stderr.splitlines()[-1].endswith("Nobody can be asked here: agree to it with --yes")
    trimmed(deployment, elsewhere)
    without_any = command(deployment, "verify")
    assert (without_any.returncode, without_any.stdout) == (os.EX_CONFIG, "")
    assert "start from a checkpoint that covers them (`stockweave checkpoint list`)" in without_any.stderr
    named = command(deployment, "verify", "--from", elsewhere)
    assert (named.returncode, named.stdout) == (0, "verified 20 rows in 2 partitions: 0 differ\n")
    with pytest.raises(Fatal, match="start from a checkpoint"):
        made(deployment, verify=True)
    assert not list(shelf_of(deployment).iterdir())


def test_a_checkpoint_past_a_log_that_lost_its_end_is_not_begun_with(deployment: Deployment) -> None:
    folded(deployment)
    shelf = Shelf(str(shelf_of(deployment)), deployment.topics)
    ahead = shelf.put([[], []], [100_000, 0])
    for run_it in (
        lambda: rebuilt(deployment, Wanted(begin=ahead.name)),
        lambda: dry_run.run(settings_of(deployment), Wanted(begin=ahead.name), 1),
        lambda: verify.run(
            settings_of(deployment), 1, thorough=False, verbose=False, json=False, checkpoint=ahead.name
        ),
    ):
        with pytest.raises(Fatal, match=r"partition 0 ends at \d+, and the checkpoint .* the log has lost its end"):
            run_it()
    assert record(deployment).candidate is None
    assert name_of(0, deployment.base) == deployment.topics[STOCK.name].name
