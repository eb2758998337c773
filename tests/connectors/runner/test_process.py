"""Feeds that run in processes: shared, handed over, killed, reconfigured, through a real Kafka."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from pathlib import Path

from structlog.testing import capture_logs

from stockweave.broker.kafka import EmbeddedKafka
from tests.connectors.files.test_folder import write
from tests.connectors.inbound.sending import hook_feed
from tests.connectors.running import Running, csv_feed, repeats, units
from tests.deployment import Deployment

FEEDS = [f"f{n}" for n in range(12)]


def configured(running: Running, root: Path) -> None:
    """Each of a supplier of its own: those of one supplier are never shared."""
    for name in FEEDS:
        running.configure(f"supplier-{name}", stock=csv_feed(root / name))


def one_more(root: Path, n: int) -> None:
    """A file for every feed."""
    for name in FEEDS:
        write(root / name / f"{n}.csv", f"code,stock\n{name}-{n},{n}\n", changed_ms=1_790_000_000_000 + n)


async def test_processes_share_the_feeds_and_none_is_run_twice_or_by_nobody(running: Running, tmp_path: Path) -> None:
    one_more(tmp_path, 1)
    configured(running, tmp_path)
    other = Running(running.deployment, running.folder)
    async with running:
        await running.until_updates(len(FEEDS))
        async with other:
            one_more(tmp_path, 2)
            await running.until_updates(2 * len(FEEDS))
        one_more(tmp_path, 3)  # the other one has gone, and handed its feeds over
        updates = await running.until_updates(3 * len(FEEDS))
    assert (len(units(updates)), repeats(updates)) == (3 * len(FEEDS), 0)


async def test_a_killed_process_leaves_no_row_out_and_what_comes_twice_has_the_same_ids(
    broker: EmbeddedKafka, tmp_path: Path
) -> None:
    rows = 200_000
    deployment = Deployment(broker.bootstrap_servers, tmp_path / "data", partitions=2)
    running = Running(deployment, tmp_path / "suppliers")
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    text = "code,stock\n" + "".join(f"s{n},{n % 1_000}\n" for n in range(rows))
    write(tmp_path / "in" / "large.csv", text, changed_ms=1_790_000_000_000)
    command = [sys.executable, "-m", "stockweave", "connectors", "run", str(running.folder)]
    with subprocess.Popen(command, env=deployment.environment("killed"), stdout=subprocess.DEVNULL) as process:  # noqa: ASYNC220
        await running.until(lambda: bool(running.progress()))
        process.send_signal(signal.SIGKILL)
    begun = deployment.end_of_updates()
    assert 0 < begun < rows, "it was killed in the middle"
    done = running.progress()["acme/stock"]["rows"]
    assert 0 < done <= len({u["sku"] for u in running.updates()}), "progress is not ahead of Kafka"
    async with running:
        await running.until(lambda: running.progress()["acme/stock"]["origin"] is None)
    updates = running.updates()
    assert {u["sku"]: u["quantity"] for u in updates} == {f"s{n}": n % 1_000 for n in range(rows)}
    assert len({(u["sku"], u["update_id"]) for u in updates}) == rows
    assert len(updates) <= rows + begun - done, "it went on from its progress"


async def test_a_changed_configuration_is_followed_and_a_faulty_one_changes_nothing(
    running: Running, tmp_path: Path
) -> None:
    write(tmp_path / "a" / "1.csv", "code,stock\ns1,1\n")
    running.configure("acme", a=csv_feed(tmp_path / "a"))
    async with running:
        await running.until_updates(1)
        running.configure("acme", a=csv_feed(tmp_path / "a"), b=csv_feed(tmp_path / "b"))
        write(tmp_path / "b" / "1.csv", "code,stock\ns2,2\n")
        await running.until_updates(2)
        running.configure("acme", a={"source": {"kind": "folder"}})
        write(tmp_path / "a" / "2.csv", "code,stock\ns3,3\n")
        await running.until_updates(3)
        running.configure("acme", b=csv_feed(tmp_path / "b"))
        write(tmp_path / "b" / "2.csv", "code,stock\ns4,4\n")
        updates = await running.until_updates(4)
        write(tmp_path / "a" / "3.csv", "code,stock\ns5,5\n")
        write(tmp_path / "b" / "3.csv", "code,stock\ns6,6\n")
        updates = await running.until_updates(5)
    assert units(updates) == {"s1": 1, "s2": 2, "s3": 3, "s4": 4, "s6": 6}, "feed a is no more"


async def test_a_start_with_one_faulty_file_reads_the_other_suppliers(running: Running, tmp_path: Path) -> None:
    write(tmp_path / "in" / "1.csv", "code,stock\ns1,1\n")
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    (running.folder / "best.yaml").write_text("supplier: best\n")
    command = [sys.executable, "-m", "stockweave", "connectors", "run", str(running.folder)]
    environment = running.deployment.environment("started")
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        updates = await running.until_updates(1)
        process.terminate()
        _, said = await asyncio.to_thread(process.communicate)
    assert units(updates) == {"s1": 1}
    assert "best.yaml:1: feeds: is missing; add it" in said


async def test_an_address_that_another_has_stops_no_feed_that_runs(running: Running, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        base = running.deployment.base
        running.deployment.base = base.model_copy(update={"connectors_port": other.getsockname()[1]})
        running.configure("acme", stock=csv_feed(tmp_path / "in"))
        with capture_logs() as said:
            async with running:
                write(tmp_path / "in" / "1.csv", "code,stock\ns1,1\n")
                await running.until_updates(1)
                running.configure("best", stock=hook_feed(tmp_path))
                await running.until(lambda: any(each["event"] == "configuration_not_taken" for each in said))
                write(tmp_path / "in" / "2.csv", "code,stock\ns2,2\n")
                updates = await running.until_updates(2)
    assert units(updates) == {"s1": 1, "s2": 2}
    [fault] = [each["fault"] for each in said if each["event"] == "configuration_not_taken"]
    assert "cannot be listened on" in fault


async def test_a_feed_that_fails_holds_up_no_other_one(running: Running, tmp_path: Path) -> None:
    running.configure("broken", stock=csv_feed(tmp_path / "not-there"))
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        for n in range(3):
            write(tmp_path / "in" / f"{n}.csv", f"code,stock\ns{n},1\n")
            await running.until_updates(n + 1)
        write(tmp_path / "not-there" / "1.csv", "code,stock\nlate,1\n")
        updates = await running.until_updates(4)
    assert units(updates)["late"] == 1, "and it goes on once its trouble is over"


async def test_a_stop_leaves_nothing_half_done_that_is_not_told(running: Running, tmp_path: Path) -> None:
    rows = 150_000
    text = "code,stock\n" + "".join(f"s{n},1\n" for n in range(rows))
    write(tmp_path / "in" / "large.csv", text, changed_ms=1_790_000_000_000)
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        await running.until(lambda: running.deployment.end_of_updates() > 0)
    begun, done = running.deployment.end_of_updates(), running.progress()["acme/stock"]
    assert done["rows"] == begun or done["origin"] is None
    async with running:
        await running.until(lambda: running.progress()["acme/stock"]["origin"] is None)
    assert running.deployment.end_of_updates() == rows, "and nothing comes twice"
