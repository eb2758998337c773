"""Checkpoints of a real deployment's rows: what is in them, what is not made, and what the list says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from inventory.digest import PartitionDigest
from schemas import keys
from schemas.topics import STOCK, UPDATES
from state.database import Resources
from state.store import PartitionStore
from stockweave.broker.kafka import EmbeddedKafka
from stockweave.errors import Fatal
from stockweave.replay.checkpoint import create, listing
from stockweave.replay.checkpoint.file import write
from stockweave.replay.checkpoint.load import Checkpoint, load_partition
from stockweave.replay.facts import Facts
from stockweave.replay.refold import refold
from tests.deployment import Deployment, some_updates
from tests.generations import read_partition
from tests.stockweave.replay.checkpoint.running import delete_topic, loaded, made, shelf_of
from tests.stockweave.replay.rebuild.rebuilt import rebuilt, settings_of, wrong_rows
from tests.stockweave.replay.rebuild.writer import Writer, folder


@pytest.fixture(scope="module")
def still(broker: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A deployment whose rows nobody changes; take a folder, and so checkpoints, of your own in it."""
    deployment = Deployment(broker.bootstrap_servers, tmp_path_factory.mktemp("still"), partitions=2)
    deployment.publish(some_updates(400, skus=50))
    Writer(deployment).fold(100)
    return deployment


def test_a_checkpoint_brings_rows_and_positions_back_to_the_byte(deployment: Deployment, tmp_path: Path) -> None:
    deployment.publish(some_updates(2_000, skus=150))
    writer = Writer(deployment)
    writer.fold(500)
    checkpoint = made(deployment, jobs=2)
    manifest = checkpoint.manifest
    for number in (0, 1):
        live = read_partition(deployment.bootstrap_servers, writer.stock, number)
        live.pop(keys.POSITION)
        assert loaded(checkpoint.address, number, tmp_path) == (live, writer.positions[number])
        part = manifest.partitions[number]
        assert (part.rows, part.offset) == (len(live), writer.positions[number].offsets[UPDATES.name])
    newest = {m.partition(): m.timestamp()[1] for m in deployment.read(UPDATES.name)}
    assert [p.newest_at for p in manifest.partitions] == [newest[0], newest[1]]
    assert (manifest.rows, manifest.generation, manifest.proof) == (150, 0, None)
    assert manifest.stranger(deployment.topics) is None
    assert Path(checkpoint.address).parent == shelf_of(deployment)


def test_each_partition_is_of_one_moment_while_workers_go_on(deployment: Deployment) -> None:
    updates = some_updates(5_000, skus=80)
    deployment.publish(updates[:500])
    writer = Writer(deployment)
    writer.fold(500)
    deployment.publish(updates[500:])
    writing = threading.Thread(target=writer.fold, args=(6,))
    writing.start()
    try:
        checkpoint = made(deployment)
        was_writing = writing.is_alive()
    finally:
        writing.join()
    assert was_writing
    for part in checkpoint.manifest.partitions:
        assert part.offset > 0
        assert part.digest == digest_at(deployment, part.partition, part.offset)


def digest_at(deployment: Deployment, partition: int, offset: int) -> str:
    """Of the rows after all updates below an offset."""
    store = PartitionStore(deployment.folder / f"at-{partition}", Resources(8 << 20, 8 << 20), "test")
    facts = Facts(deployment.bootstrap_servers, deployment.topics[UPDATES.name].name, partition, 0, offset)
    refold(facts, folder(), store)
    digest = PartitionDigest()
    for key, row in store.rows():
        digest.add(key, row)
    store.close()
    return digest.hexdigest()


def test_rows_that_the_updates_do_not_explain_are_not_kept_as_verified(deployment: Deployment) -> None:
    updates = some_updates(1_000, skus=40)
    deployment.publish(updates)
    wrong_rows(deployment)
    with pytest.raises(Fatal, match=r"no checkpoint was made: in partition \d, \d rows are not .* `stockweave verify`"):
        made(deployment, verify=True)
    assert list(shelf_of(deployment).iterdir()) == []
    assert made(deployment).manifest.proof is None


def test_a_proof_goes_on_from_the_newest_proven_checkpoint(deployment: Deployment) -> None:
    updates = some_updates(1_500, skus=40)
    deployment.publish(updates[:1_000])
    writer = Writer(deployment)
    writer.fold(100)
    first = made(deployment, verify=True)
    proof = first.manifest.proof
    assert proof is not None
    assert (proof.begin, proof.updates) == (None, 1_000)
    made(deployment)  # newer, and not proven
    deployment.publish(updates[1_000:])
    writer.fold(100)
    proof = made(deployment, verify=True).manifest.proof
    assert proof is not None
    assert (proof.begin, proof.updates) == (first.name, 500)


def test_a_proof_by_other_rules_is_not_gone_on_from(still: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "rules_digest", lambda _: "of before")
    made(still, verify=True, name="ruler")
    monkeypatch.undo()
    proof = made(still, verify=True, name="ruler").manifest.proof
    assert proof is not None
    assert (proof.begin, proof.updates) == (None, 400)


def test_any_place_that_fsspec_knows_will_do(still: Deployment, tmp_path: Path) -> None:
    checkpoint = made(still, to=f"memory://{still.prefix}kept/")
    assert checkpoint.address == f"memory://{still.prefix}kept/{checkpoint.name}"
    assert loaded(checkpoint.address, 1, tmp_path)[1] == still.stock().positions[1]
    with pytest.raises(Fatal, match=r"memory://.*/nothing/manifest.json is not there"):
        Checkpoint(f"memory://{still.prefix}kept/nothing")
    with pytest.raises(Fatal, match=r"address nosuch://x cannot be used: .*; install what fsspec needs"):
        made(still, to="nosuch://x")


def test_what_the_place_keeps_otherwise_than_it_was_written_is_no_checkpoint(
    still: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lost, said in ((1, "at key"), (-1, "has more rows")):
        with monkeypatch.context() as patch:
            rows = (lambda entries: list(entries)[1:]) if lost > 0 else (lambda entries: [*entries, (b"z", b"")])
            patch.setattr(create, "write", lambda out, entries, rows=rows: write(out, rows(entries)))
            if lost < 0:
                patch.setattr("stockweave.replay.checkpoint.file.decode_packed_row", lambda _: None)
                patch.setattr("stockweave.replay.checkpoint.file.digest", lambda _: bytes(16))
                patch.setattr("inventory.digest.digest", lambda _: bytes(16))
            with pytest.raises(Fatal, match=said):
                made(still, name="keeper")
        assert list(shelf_of(still, "keeper").iterdir()) == []


def test_damage_is_named_with_the_file_and_leaves_no_position(still: Deployment, tmp_path: Path) -> None:
    address = Path(made(still, name="damager").address)
    for name in ("partition-00000.parquet", "manifest.json"):
        kept = (address / name).read_bytes()
        for place in (0, len(kept) // 3, len(kept) - 2):
            damaged = bytearray(kept)
            damaged[place] ^= 2
            (address / name).write_bytes(damaged)
            store = PartitionStore(tmp_path / f"{name}-{place}", Resources(8 << 20, 8 << 20), "test")
            with pytest.raises(Fatal, match=rf"{name} (is damaged|has format)"):
                load_partition(str(address), 0, store)
            assert store.position is None
            store.close()
        (address / name).write_bytes(kept)
    (address / "partition-00000.parquet").unlink()
    with pytest.raises(Fatal, match=r"partition-00000.parquet is not there"):
        loaded(str(address), 0, tmp_path)


def test_rows_of_former_updates_make_no_checkpoint(deployment: Deployment) -> None:
    deployment.publish(some_updates(50))
    writer = Writer(deployment)
    writer.fold(100)
    writer.positions[1].updates_generation = "another"
    writer.write(1, {}, writer.positions[1])
    with pytest.raises(Fatal, match=r"partition 1 in .* stand for updates of a former topic"):
        made(deployment)


def test_the_list_says_what_there_is_and_what_fits(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    settings = settings_of(deployment)
    listing.run(settings, json=False)
    assert "no checkpoint in" in capsys.readouterr().out
    deployment.publish(some_updates(600, skus=30))
    Writer(deployment).fold(100)
    done = subprocess.run(
        [sys.executable, "-m", "stockweave", "checkpoint", "create", "--verify", "--jobs", "1"],
        env=deployment.environment("engineer"), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "30 rows of 600 updates in 2 partitions" in done.stdout
    assert "600 updates were folded again: 0 differ" in done.stdout
    create.run(settings, None, 1, verify=False, json=True)
    plain = json.loads(capsys.readouterr().out)
    assert (plain["rows"], plain["updates"], plain["verified"]) == (30, 600, None)
    (shelf_of(deployment) / "dying").mkdir()
    damaged = Path(made(deployment).address)
    (damaged / "manifest.json").write_text("{}")
    listing.run(settings, json=False)
    said = capsys.readouterr().out.splitlines()
    assert " ".join(said[0].split()) == "name created rows size generation updates up to verified fits"
    assert [line.split()[-1] for line in said[1:3]] == ["yes", "yes"]
    assert said[2].split()[0] == plain["name"]
    assert said[2].split()[-2] == "no"
    assert said[3].startswith(f"{damaged.name}: {damaged}/manifest.json is damaged")
    assert said[4].startswith(f"unfinished: {shelf_of(deployment)}/dying")
    delete_topic(deployment, deployment.topics[UPDATES.name].name, again=True)
    listing.run(settings, json=True)
    told = json.loads(capsys.readouterr().out)
    assert [c.get("fits") for c in told["checkpoints"]] == [False, False, None]
    assert "here it is" in told["checkpoints"][0]["stranger"]
    assert told["unfinished"] == ["dying"]


def test_the_list_is_told_even_where_there_is_no_kafka(still: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    made(still, name="mourner")
    listing.run(settings_of(still, "mourner").model_copy(update={"bootstrap_servers": None}), json=False)
    told = capsys.readouterr()
    assert told.out.splitlines()[1].endswith("?")
    assert "which of them fit is not known: there is no broker's data" in told.err


def test_a_checkpoint_is_of_the_live_generation_whatever_its_number(deployment: Deployment, tmp_path: Path) -> None:
    deployment.publish(some_updates(300))
    wrong_rows(deployment)
    now = rebuilt(deployment)
    checkpoint = made(deployment, verify=True)
    assert (checkpoint.manifest.generation, checkpoint.manifest.stock.topic) == (1, now.live.topic)
    assert now.live.topic != deployment.topics[STOCK.name].name
    live = read_partition(deployment.bootstrap_servers, now.live.topic, 0)
    assert loaded(checkpoint.address, 0, tmp_path)[0] == {k: v for k, v in live.items() if k != keys.POSITION}
