"""Suppliers' files: what is wrong with one is told with its line, and nothing of it is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.configuration.load import Loaded, load
from connectors.kinds import kinds

WELL = """\
supplier: acme
limits: {requests_per_s: 2}
feeds:
  stock:
    source:
      kind: folder
      path: in
    format:
      format: csv
      delimiter: ";"
    poll: {every_s: 30, fastest_s: 5}
    mapping:
      version: 1
      sku: code
      quantity:
        path: stock
        pack: 12
"""


def loaded(folder: Path, *texts: str) -> Loaded:
    for n, text in enumerate(texts):
        (folder / f"{n}.yaml").write_text(text)
    return load(folder, kinds())


def test_a_file_that_is_well_gives_its_feeds(tmp_path: Path) -> None:
    found = loaded(tmp_path, WELL, WELL.replace("acme", "best").replace("stock:\n    source", "prices:\n    source"))
    assert (found.faults, list(found.feeds)) == ([], ["acme/stock", "best/prices"])
    feed = found.feeds["acme/stock"].config
    assert (feed.poll.every_s, feed.mapping.paths, found.limits["acme"].requests_per_s) == (30, ["code", "stock"], 2)


@pytest.mark.parametrize(
    ("was", "instead", "said"),
    [
        ("path: in", "paths: in", "7: feeds.stock.source.paths: is no option here; remove it"),
        ("path: in", "pattern: '*'", "5: feeds.stock.source.path: is missing; add it"),
        (
            "kind: folder",
            "kind: carrier-pigeon",
            "5: feeds.stock.source: kind is 'carrier-pigeon', and has to be one of these: 'folder'",
        ),
        (
            'delimiter: ";"',
            'delimiter: ";;"',
            "10: feeds.stock.format.delimiter: is too long; it has at most so many characters: 1",
        ),
        (
            "pack: 12",
            "pack: a dozen",
            "17: feeds.stock.mapping.quantity.pack: is no whole number; write one, without quotes",
        ),
        ("fastest_s: 5", "fastest_s: 50", "11: feeds.stock.poll: needs fastest_s <= every_s <= slowest_s; mend them"),
        ("supplier: acme", "supplier: ' acme'", "1: supplier: begins or ends with a space"),
        ("supplier: acme", "supplier: a/b", "1: supplier: contains a slash"),
        ("version: 1", "version: one", "13: feeds.stock.mapping.version: is no whole number; write one"),
        ("  stock:\n    source", "  Stock!:\n    source", "4: feeds.Stock!: the name does not fit ^[a-z0-9]"),
        ("      kind: folder", "      kind: [folder", "7: is not YAML (expected ',' or ']', but got ':'); mend it"),
        ("supplier: acme", "supplier: acme\nsupplier: best", "2: supplier is there twice; leave one of them out"),
        (WELL, "", "1: the file: is no mapping; write its options below it"),
        (WELL, "supplier: acme\nfeeds: {}\n", "2: feeds: has too few entries; it needs 1 or more"),
    ],
)
def test_a_fault_is_told_with_its_line_and_its_place(tmp_path: Path, was: str, instead: str, said: str) -> None:
    assert WELL.replace(was, instead) != WELL
    found = loaded(tmp_path, WELL.replace(was, instead))
    assert [fault for fault in found.faults if fault.startswith(f"{tmp_path / '0.yaml'}:{said}")], found.faults
    assert found.feeds == {}


def test_all_faults_of_all_files_are_told_at_once_and_the_others_are_taken(tmp_path: Path) -> None:
    broken = WELL.replace("pack: 12", "pack: 0").replace("path: in", "dir: in")
    found = loaded(tmp_path, broken, WELL.replace("acme", "best"), "supplier: [")
    assert (len(found.faults), list(found.feeds)) == (4, ["best/stock"])


def test_two_files_of_one_supplier_are_told(tmp_path: Path) -> None:
    found = loaded(tmp_path, WELL, WELL)
    assert found.faults == [f"{tmp_path / '1.yaml'}:1: supplier: acme has another file already; put all of it into one"]


def test_a_path_that_the_format_cannot_look_for_is_told_before_any_row(tmp_path: Path) -> None:
    json = WELL.replace('format: csv\n      delimiter: ";"', 'format: json\n      records: "$[*]"')
    assert loaded(tmp_path, json).faults == []
    [fault] = loaded(tmp_path, json.replace("sku: code", "sku: $..code")).faults
    assert "feeds.stock: mapping.sku: '$..code' may find several; send one that names one place" in fault


def test_a_constant_of_the_mapping_that_cannot_be_is_told_before_any_row(tmp_path: Path) -> None:
    [fault] = loaded(tmp_path, WELL.replace("sku: code", "sku: code\n      kind: {constant: SNAPSHOT}")).faults
    assert "mapping.kind: 'SNAPSHOT' is none of COUNT, DELTA, WITHDRAWN; name it in values" in fault


REST = """\
supplier: acme
feeds:
  sales:
    source: {kind: rest, url: "https://supplier.example/sales"}
    format: {format: json}
    mapping: {version: 1, sku: $.sku, quantity: $.qty, kind: {constant: DELTA}, observed_at: $.at}
"""


def test_changes_that_are_polled_need_an_id_of_the_suppliers(tmp_path: Path) -> None:
    [fault] = loaded(tmp_path, REST).faults
    assert "mapping.update_id: changes that are read again need an id of the supplier's; name its path" in fault
    assert loaded(tmp_path, REST.replace("version: 1", "version: 1, update_id: $.id")).faults == []


def test_changes_need_a_time_each_for_the_rule_keeps_few_of_one_moment_apart(tmp_path: Path) -> None:
    [fault] = loaded(tmp_path, REST.replace(", observed_at: $.at", ", update_id: $.id")).faults
    assert "mapping.observed_at: changes of one SKU that all have one time are too many" in fault


def test_a_folder_without_files_is_told(tmp_path: Path) -> None:
    assert load(tmp_path, kinds()).faults == [f"{tmp_path}: there is no YAML file in it; write one for each supplier"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert load(missing, kinds()).faults == [f"{missing}: there is no such folder or file; create it, or mend its path"]


def test_a_file_of_aliases_that_double_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 100))]
    [fault] = loaded(tmp_path, "\n".join(lines)).faults
    assert "has more than 100 aliases; write them out" in fault
