"""Drift through a real Kafka: what a supplier changes is told once, and what no longer maps counts nowhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import pytest

from connectors.mapping.drift import Alert, Profile
from connectors.runner.progress import Kept, note
from schemas.topics import FEEDS
from tests.connectors.files.test_folder import write
from tests.connectors.running import SIMPLE, Running, csv_feed, told, units


def profile(running: Running, feed: str = "acme/stock") -> Profile | None:
    found: dict[str, Kept] = {}
    for message in running.deployment.read(FEEDS.name):
        note(found, message)
    return found[feed].profile if feed in found else None


def alerts(running: Running) -> list[Alert]:
    """Every record of one, repeats as well."""
    messages = [m for m in running.deployment.read(FEEDS.name) if b"#drift/" in (m.key() or b"")]
    return [msgspec.json.decode(m.value() or b"", type=Alert) for m in messages]


def has_letters(running: Running, count: int) -> bool:
    return len(running.letters()) == count


def stock(head: str, first: int = 0) -> str:
    return f"{head}\n" + "".join(f"s{n},{n % 9 + first}\n" for n in range(60))


@pytest.mark.parametrize("snapshot", [None, {"missing": "withdrawn"}])
async def test_a_column_of_another_name_is_told_once_and_its_rows_are_dead_letters_and_not_zero(
    running: Running, tmp_path: Path, snapshot: dict[str, str] | None
) -> None:
    more = {} if snapshot is None else {"snapshot": snapshot}
    write(tmp_path / "in" / "a.csv", stock("code,stock"), changed_ms=1_790_000_000_000)
    running.configure("acme", stock=csv_feed(tmp_path / "in", **more))
    async with running:
        await running.until_updates(60)
        await running.until(lambda: profile(running) is not None)
    async with running:  # what was learnt is kept
        for day in (1, 2):
            write(tmp_path / "in" / f"{day}.csv", stock("code,bestand", day), changed_ms=1_790_000_000_000 + day)
            await running.until(partial(has_letters, running, day))
        await running.until(lambda: len(alerts(running)) == 1)
        write(tmp_path / "in" / "3.csv", stock("code,stock", 3), changed_ms=1_790_000_000_003)
        updates = await running.until_updates(120)
        await running.until(lambda: len(alerts(running)) == 2)
    first, back = alerts(running)
    assert (first.feed, first.field, first.change, first.sample) == ("acme/stock", "stock", "vanished", ["0", "1", "2"])
    assert (first.was, first.now) == ("columns stock", "no such column; new: bestand")
    assert (back.field, back.now) == ("bestand", "no such column; new: stock")
    assert {told(letter)["__connect.errors.exception.class.name"] for letter in running.letters()} == {"no_such_column"}
    assert min(units(updates).values()) == 3, "none was taken for zero"


async def test_words_in_place_of_numbers_are_told_and_every_row_of_them_is_a_dead_letter(
    running: Running, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.csv", stock("code,stock"), changed_ms=1_790_000_000_000)
    running.configure("acme", stock=csv_feed(tmp_path / "in"))
    async with running:
        await running.until_updates(60)
        words = "code,stock\n" + "".join(f"s{n},plenty\n" for n in range(60))
        write(tmp_path / "in" / "b.csv", words, changed_ms=1_790_000_000_001)
        await running.until(lambda: len(running.letters()) == 60)
        await running.until(lambda: len(alerts(running)) == 1)
        assert running.deployment.end_of_updates() == 60
    [alert] = alerts(running)
    assert (alert.field, alert.change, alert.sample) == ("stock", "type", ["plenty"])
    assert (alert.was, alert.now, alert.version) == ("100% whole number", "100% text", 1)


async def test_another_version_of_the_mapping_begins_anew_and_a_feed_that_is_not_watched_tells_nothing(
    running: Running, tmp_path: Path
) -> None:
    write(tmp_path / "in" / "a.csv", stock("code,stock"), changed_ms=1_790_000_000_000)
    write(tmp_path / "un" / "a.csv", stock("code,stock"), changed_ms=1_790_000_000_000)

    def configure(mapping: dict[str, object]) -> None:
        unwatched = csv_feed(tmp_path / "un", mapping=mapping, drift={"watch": False})
        running.configure("acme", stock=csv_feed(tmp_path / "in", mapping=mapping), other=unwatched)

    configure(SIMPLE)
    async with running:
        await running.until_updates(120)
    configure({"version": 2, "sku": "code", "quantity": "bestand"})
    for folder in ("in", "un"):
        write(tmp_path / folder / "b.csv", stock("code,bestand"), changed_ms=1_790_000_000_001)
        (tmp_path / folder / "a.csv").unlink()
    async with running:
        await running.until_updates(240)
        await running.until(lambda: (known := profile(running)) is not None and known.version == 2)
    assert alerts(running) == []
    assert profile(running, "acme/other") is None


FORMS = {
    "json": ({"format": "json"}, '[{"code": "a", "stock": 5}, {"code": "b", "%s": null}]'),
    "ndjson": ({"format": "ndjson"}, '{"code": "a", "stock": 5}\n{"code": "b", "%s": null}\n'),
    "xml": (
        {"format": "xml", "row": "i"},
        "<all><i><code>a</code><stock>5</stock></i><i><code>b</code><%s></%s></i></all>",
    ),
    "csv": ({"format": "csv"}, "code,%s\na,5\nb,\n"),
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_default_holds_for_an_empty_field_and_never_for_one_that_is_gone(
    running: Running, tmp_path: Path, form: str
) -> None:
    config, text = FORMS[form]
    mapping = SIMPLE | {"quantity": {"path": "stock", "default": 0}}
    if form.endswith("json"):
        mapping |= {"sku": "$.code", "quantity": {"path": "$.stock", "default": 0}}
    running.configure("acme", stock=csv_feed(tmp_path / "in", format=config, mapping=mapping))
    write(tmp_path / "in" / "1", text.replace("%s", "stock"), changed_ms=1_790_000_000_000)
    async with running:
        assert units(await running.until_updates(2)) == {"a": 5, "b": 0}
        gone = text.replace("stock", "bestand").replace("%s", "bestand")
        write(tmp_path / "in" / "2", gone, changed_ms=1_790_000_000_001)
        letters = 1 if form == "csv" else 2
        await running.until(partial(has_letters, running, letters))
    assert len(running.updates()) == 2, "nothing turned to zero"
    reasons = {told(letter)["__connect.errors.exception.class.name"] for letter in running.letters()}
    assert reasons == {"no_such_column" if form == "csv" else "missing"}
