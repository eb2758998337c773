"""What a rebuild says when it cannot be done, and that nothing has changed then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec.structs import replace

from schemas.generation_log import write
from schemas.generations import PREVIOUS, Generations, name_of
from schemas.topics import STOCK, UPDATES
from stockweave.errors import Fatal, Retriable
from stockweave.replay.rebuild import dry_run, rebuild, status
from stockweave.replay.rebuild.fold import PublishedStore
from stockweave.replay.rebuild.plan import Wanted
from tests.deployment import Deployment, some_updates
from tests.stockweave.replay.rebuild.rebuilt import content, environment, rebuilt, record, settings_of, wrong_rows


@pytest.fixture
def live(deployment: Deployment) -> Deployment:
    """With wrong rows."""
    deployment.publish(some_updates(400))
    wrong_rows(deployment)
    return deployment


def begun(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, wanted: Wanted | None = None) -> Generations:
    """A rebuild that was stopped at once."""

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rebuild.Rebuild, "build", stop)
        with pytest.raises(KeyboardInterrupt):
            rebuilt(deployment, wanted)
    return record(deployment)


def delete_topic(deployment: Deployment, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers})
    admin.delete_topics([name])[name].result()


def test_with_nothing_folded_there_is_nothing_to_rebuild(deployment: Deployment) -> None:
    deployment.publish(some_updates(10))
    with pytest.raises(Fatal, match=r"has no position yet: nothing was ever folded.*start a worker"):
        rebuilt(deployment)
    assert record(deployment).candidate is None


def test_a_trimmed_log_is_told_with_the_remedy_and_the_candidate_can_be_given_up(live: Deployment) -> None:
    admin = AdminClient({"bootstrap.servers": live.bootstrap_servers})
    updates = live.topics[UPDATES.name].name
    for deleted in admin.delete_records([TopicPartition(updates, 1, 5)]).values():
        deleted.result()
    for rebuild_it in (lambda: rebuilt(live), lambda: dry_run.run(settings_of(live), Wanted(), 1)):
        with pytest.raises(Fatal, match=r"partition 1 no longer has the updates from offset 0 on.*checkpoint"):
            rebuild_it()
    assert record(live).live.number == 0
    now = rebuilt(live, Wanted(partitions=(0,)), restart=True)  # the other one is taken over, and needs no log
    assert now.live.number == 2
    with pytest.raises(Fatal, match="partition 1 no longer has"):
        rebuilt(live, Wanted(partitions=(1,)))


@pytest.mark.parametrize("missing", ["live", "candidate", "previous"])
def test_a_generation_whose_topic_is_gone_is_named_with_the_remedy(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    rebuilt(live)
    now = record(live)
    said, wanted = {
        "live": ("live generation 1 is not there: start a worker", None),
        "candidate": ("generation 2, which was being rebuilt, is gone; begin anew with --restart", None),
        "previous": ("no way back: topic .* of generation 0 is gone", Wanted(PREVIOUS)),
    }[missing]
    if missing == "candidate":
        now = begun(live, monkeypatch)
    gone = getattr(now, missing)
    assert gone is not None
    delete_topic(live, gone.topic)
    with pytest.raises(Fatal, match=said):
        rebuilt(live, wanted)
    assert record(live) == now
    capsys.readouterr()
    status.run(settings_of(live))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(missing))
    assert f"topic {gone.topic}, which is not there" in line


def test_a_candidate_of_other_rules_is_not_gone_on_with(live: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    now = begun(live, monkeypatch)
    assert now.candidate is not None
    assert now.plan is not None
    write(live.base, live.bootstrap_servers, replace(now, plan=replace(now.plan, rules="other")))
    with pytest.raises(Fatal, match="rules are not those that generation 1 was begun with"):
        rebuilt(live)
    ended = rebuilt(live, restart=True)
    assert ended.live.number == 2
    assert now.candidate.topic not in AdminClient({"bootstrap.servers": live.bootstrap_servers}).list_topics().topics


def test_there_is_no_way_back_where_no_generation_was_before(live: Deployment) -> None:
    with pytest.raises(Fatal, match="no way back: no generation before 0 is kept"):
        rebuilt(live, Wanted(PREVIOUS))


def test_a_topic_that_does_not_hold_what_was_folded_does_not_become_live(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PublishedStore.write

    def lossy(self: PublishedStore, changed: Mapping[bytes, bytes | None], next_offset: int) -> None:
        """One row is kept here that Kafka never got."""
        kept_here = max(changed)
        whole(self, {key: value for key, value in changed.items() if key != kept_here}, next_offset)
        self.store.write({kept_here: changed[kept_here]}, self.store.mark.next_offset)

    monkeypatch.setattr(PublishedStore, "write", lossy)
    with pytest.raises(Fatal, match="read back otherwise than it was folded"):
        rebuilt(live)
    assert record(live).live.number == 0


def test_updates_that_come_faster_than_they_are_folded_are_told(
    live: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = 0

    def never_less(self: rebuild.Rebuild) -> int:
        nonlocal ahead
        ahead += 1_000_000
        return ahead

    monkeypatch.setattr(rebuild, "ROUNDS_MAX", 2)
    monkeypatch.setattr(rebuild.Rebuild, "_lag", never_less)
    with pytest.raises(
        Retriable, match=r"after 2 rounds the workers are still 2,000,000 updates and facts ahead.*more --jobs"
    ):
        rebuilt(live)
    assert record(live).candidate is not None


def test_a_row_that_cannot_be_read_is_one_to_change(live: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    writer = wrong_rows(live)  # fences the first, and goes on from nothing: its positions are right
    writer.write(0, {b"sku-broken": b"no row"}, writer.positions[0])
    dry_run.run(settings_of(live), Wanted(partitions=(0,)), 1)
    assert "sku-broken: no row -> no row" in capsys.readouterr().out
    ended = rebuilt(live)
    assert ended.live.number == 1
    assert {p: c.offset for p, c in content(live, ended.live.topic).items()} == {
        p: position.offsets[UPDATES.name] for p, position in writer.positions.items()
    }


def test_the_status_tells_what_is_under_way_and_by_which_command_it_goes_on(
    live: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told() -> list[str]:
        capsys.readouterr()
        status.run(settings_of(live))
        return capsys.readouterr().out.splitlines()

    stock = name_of(0, live.base)
    assert told() == [f"live: generation 0 in topic {stock}, 400 updates folded"]
    begun(live, monkeypatch, Wanted(partitions=(0,)))
    said = told()
    assert said[0] == f"live: generation 0 in topic {stock}, 400 updates folded"
    assert said[1].startswith(
        f"candidate: generation 1 in topic {stock}.g1, 0 of 400 updates folded; rebuilt from the first update, "
        "partitions 0 alone since 20"
    )
    assert said[1].endswith("`stockweave rebuild` goes on with it")
    rebuilt(live)
    said = told()
    assert said[0].startswith(f"live: generation 1 in topic {stock}.g1, 400 updates folded since 20")
    assert (
        said[1] == f"previous: generation 0 in topic {stock}, 400 updates folded, kept for `stockweave rebuild --back`"
    )
    begun(live, monkeypatch, Wanted(PREVIOUS))
    assert "a way back since 20" in told()[1]
    assert STOCK.name in said[0]


def test_nobody_is_asked_where_nobody_can_answer(live: Deployment) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stockweave", "rebuild", "--jobs", "1", *arguments],
            env=environment(live, "engineer"), capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    assert command().returncode == 0
    refused = command()
    assert refused.returncode == 78
    assert "The generation before, 0 in topic" in refused.stderr
    assert "agree to it with --yes" in refused.stderr
    assert record(live).candidate is None
    assert command("--yes").returncode == 0
    assert record(live).live.number == 2
