"""Laws of what is said: every part of the number, at 100 columns, whatever suppliers wrote; pure, without Kafka."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from inventory.policies import Policies
from inventory.stock import Limits, StockUpdate
from schemas.policies import Policy
from schemas.rows import decode_row
from stockweave.replay.explain.explain import Beside, Explained, Live
from stockweave.replay.explain.report import as_json, report, shown
from tests.inventory.builders import update
from tests.inventory.reference import Event
from tests.stockweave.replay.explain.messages import LOGGED_MS, accounts_of, explained, history_of

BASE_MS = 1_700_000_000_000


def said(kind: str, name: str, after_ms: int, quantity: int = 0, **fields: Any) -> StockUpdate:
    return update(Event(kind, name, BASE_MS + after_ms, quantity), **{"received_at": BASE_MS + 800_000} | fields)


def printed(found: Explained, columns: int = 100, *, everything: bool = False) -> list[str]:
    out = Console(file=io.StringIO(), width=columns, highlight=False, markup=False)
    for part in report(found, everything=everything):
        out.print(part, soft_wrap=isinstance(part, str))
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


def cells(line: str) -> list[str]:
    return [cell for cell in line.split("  ") if cell.strip()]


MIXED = [
    said("COUNT", "count-1", 0, 40, basis="AVAILABLE"),
    said("DELTA", "sale-1", 1_000, -2),
    said("DELTA", "sale-2", 2_000, -3, order_ref="order-9"),
    said("DELTA", "sale-1", 1_000, -2),
    said("COUNT", "g", 0, 25, supplier_id="globex", location_id="north", stale_after_ms=60_000),
    said("COUNT", "h-1", 0, 9, supplier_id="hooli"),
    said("WITHDRAWN", "h-2", 5_000, supplier_id="hooli"),
    said("DELTA", "i", 0, -1_250, supplier_id="initech"),
]


def test_each_source_is_told_with_what_it_sells_and_why_not_and_they_add_up() -> None:
    lines = printed(explained(history_of(MIXED)))
    assert lines[0] == "sku-1: 35 can be sold, -1,190 on hand of 4 sources, at 2023-11-14 22:28:20.000 UTC"
    assert lines[1] == "8 updates of it in inventory.updates-3 from offset 0 to 20: 7 applied, 1 duplicate"
    table = {cells(line)[0].strip(): [c.strip() for c in cells(line)[1:]] for line in lines[3:15] if cells(line)}
    assert table["acme at default"] == ["35", "35", "2023-11-14 22:13:22.000"]
    assert table["globex at north"][:4] == ["25", "0", "2023-11-14 22:13:20.000", "stale: it counts as nothing, being"]
    assert table["hooli at default"] == ["0", "0", "2023-11-14 22:13:25.000", "withdrawn: no longer offered"]
    assert table["initech at default"][:2] == ["-1,250", "0"]
    assert "oversold: below zero" in table["initech at default"][3]
    assert table["all"] == ["-1,190", "35"]
    assert "acme at default: 35 = count 40 (available) -5 of 2 deltas" in lines
    assert "initech at default: -1,250 = no count -1,250 of 1 delta" in lines
    assert "hooli at default: 0 = withdrawn 0" in lines


def test_a_view_of_a_stock_that_another_speaks_for_says_so_and_so_does_one_that_has_less_than_it_says() -> None:
    by = Policies({f"supplier:{name}": Policy(f"supplier:{name}", 1, pool="main") for name in ("acme", "globex")})
    told = [
        said("COUNT", "count-1", 0, 40),
        said("COUNT", "count-2", 1_000, 25, supplier_id="globex"),
        said("DELTA", "sale-1", 2_000, -2),
    ]
    [acme, globex] = accounts_of(explained(history_of(told), rules=by.rules("sku-1")))
    assert (acme.on_hand, acme.sells, acme.why) == (38, 25, "25 by another source of the same stock")
    assert (globex.sells, globex.why) == (0, "the same stock as another source, which speaks for it")


def test_each_update_is_told_with_offset_and_both_times() -> None:
    lines = printed(explained(history_of(MIXED)))
    at = lines.index("acme at default: 35 = count 40 (available) -5 of 2 deltas")
    received = "2023-11-14 22:26:40.000"
    assert [[c.strip() for c in cells(line)] for line in lines[at + 3 : at + 6]] == [
        ["count", "40", "count-1", "0", "2023-11-14 22:13:20.000", received],
        ["delta", "-2", "sale-1", "1", "2023-11-14 22:13:21.000", received],
        ["delta", "-3", "sale-2 (order order-9)", "2", "2023-11-14 22:13:22.000", received],
    ]
    end = lines.index("changed nothing: 1 update, newest first")
    assert [c.strip() for c in cells(lines[end + 3])] == [
        "delta -2 'sale-1' of acme at default", "3", "2023-11-14 22:13:21.000", received,
    ]  # fmt: skip
    words = " ".join(line.strip() for line in lines[end + 4 :])
    assert words == "duplicate: the same update_id, kind, time and quantity as the one at offset 1"


def test_what_is_carried_is_told_with_the_time_up_to_which() -> None:
    history = history_of([said("COUNT", "c", 0, 9), *(said("DELTA", f"d{i}", i, -1) for i in (1, 2, 3))],
                         limits=Limits(entries_max=2))  # fmt: skip
    lines = printed(explained(history))
    assert "acme at default: 6 = count 9 (on hand) -1 carried -2 of 2 deltas" in lines
    at = next(i for i, line in enumerate(lines) if line.startswith("carried"))
    assert [c.strip() for c in cells(lines[at])] == [
        "carried",
        "-1",
        "deltas up to then, not",
        "2023-11-14 22:13:20.001",
    ]
    assert lines[at + 1].strip() == "told apart"


def test_no_line_of_a_table_is_wider_than_the_terminal_and_no_id_is_cut() -> None:
    long = "x" * 128
    updates = [
        said("COUNT", long, 0, 10**12, supplier_id=long, location_id=long),
        said("DELTA", long, 1, -(10**12), supplier_id=long, location_id=long, order_ref=long),
        said("DELTA", long, 1, -(10**12), supplier_id=long, location_id=long, order_ref=long),
    ]
    for columns in (100, 132):
        lines = printed(explained(history_of(updates)), columns)
        tables = [line for line in lines if not line.startswith(("sku-1", "3 updates", "there is", f"{long} at"))]
        assert max(map(len, tables)) <= columns
        # Twice the source in the overview, the ids of count, delta and order, and those of what changed nothing.
        assert "".join(tables).count("x") == 128 * (2 + 3 + 3)


def test_of_much_the_newest_is_shown_and_how_to_see_the_rest() -> None:
    updates = [said("COUNT", f"c{i}", 0, 1, supplier_id=f"s{i:02}") for i in range(25)]
    updates += [said("DELTA", f"d{i}", i + 1, -1, supplier_id="s00") for i in range(30)]
    updates += [said("DELTA", "late", -1 - i, 1, supplier_id="s00") for i in range(12)]
    found = explained(history_of(updates))
    lines = printed(found)
    assert "and 5 more sources; --all shows them" in lines
    assert not any(line.startswith("s24 at default") for line in lines)
    [earlier] = [line for line in lines if line.startswith("10 deltas")]
    assert [c.strip() for c in cells(earlier)][1:] == ["-10", "earlier ones; --all"]
    assert "changed nothing: 12 updates, newest first, of which these are the newest 10; --all shows more" in lines
    everything = printed(found, everything=True)
    assert sum(line.startswith("s24 at default") for line in everything) == 2
    assert sum(line.startswith("delta ") and line.split()[1] == "-1" for line in everything) == 30


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\x9b2J", "\u202ereversed"])
def test_what_suppliers_wrote_cannot_move_the_cursor(text: str) -> None:
    bad = said("COUNT", text, 0, 1, supplier_id=text)
    lines = printed(explained(history_of([bad])))
    assert text not in "\n".join(lines)
    assert shown(text).isprintable()
    assert all(line.isprintable() for line in lines)


def test_what_is_very_long_is_cut_where_it_was_refused() -> None:
    lines = printed(explained(history_of([said("COUNT", "y" * 5_000, 0, 1)])))
    assert lines[0] == "sku-1: it has no row at 2023-11-14 22:28:20.000 UTC, for every update of it was refused"
    assert 128 <= "".join(lines).count("y") < 150
    assert "…" in "".join(lines)


def live_row(*updates: StockUpdate) -> bytes:
    row = history_of(updates).row
    assert row is not None
    return row


def test_the_live_row_is_told_beside_it() -> None:
    history = history_of(MIXED[:3])
    assert history.row is not None
    live = Live("inventory.stock.g2", history.row, 3)
    same = Beside(live, True, "", 0, decode_row(history.row))
    assert printed(explained(history, beside=same))[2] == (
        "the live row in inventory.stock.g2, which holds the updates below offset 3, says the same"
    )
    assert printed(explained(history, beside=same._replace(behind=1_200)))[2].endswith(
        "says the same; 1,200 updates of this SKU are not in it yet"
    )
    wrong = same._replace(live=live._replace(row=live_row(*MIXED[:2])), same=False)
    assert printed(explained(history, beside=wrong))[2] == (
        "the live row in inventory.stock.g2, which holds the updates below offset 3, is another: 38 on hand, and by "
        "the updates 35 on hand; `stockweave verify` names the update at which they part, or the reservation"
    )
    missing = wrong._replace(live=live._replace(row=None))
    assert "is another: no row, and by the updates 35 on hand" in printed(explained(history, beside=missing))[2]
    broken = wrong._replace(live=live._replace(row=b"\xc1"))
    assert "is another: it cannot be read, and by" in printed(explained(history, beside=broken))[2]
    apart = same._replace(same=None, why="it stands at offset 3, and the log has only updates of after")
    line = printed(explained(history, beside=apart))[2]
    assert line == f"the live row in inventory.stock.g2 is not compared: {apart.why}"
    assert printed(explained(history))[2].startswith("there is no live row to compare with")
    assert "live row" not in "\n".join(printed(explained(history, as_of_ms=BASE_MS)))


def test_behind_a_checkpoint_a_dash_stands_for_what_is_not_known() -> None:
    seed = live_row(*MIXED[:3])
    found = explained(history_of([], seed=seed), start=12, checkpoint="2026-11-21T093809.123Z", as_of_ms=LOGGED_MS)
    lines = printed(found)
    assert lines[1:3] == [
        "0 updates of it in inventory.updates-3 from offset 12 to 20",
        "folded on from the checkpoint 2026-11-21T093809.123Z, at offset 12; '-' where an update came before it",
    ]
    [line] = [line for line in lines if line.startswith("count ")]
    assert [c.strip() for c in cells(line)] == [
        "count",
        "40",
        "count-1",
        "-",
        "2023-11-14 22:13:20.000",
        "-",
    ]


def test_json_has_all_of_it_under_stable_names() -> None:
    data = json.loads(json.dumps(as_json(explained(history_of(MIXED)))))
    assert data.keys() == {
        "sku", "as_of", "at", "known", "available", "on_hand", "reserved", "first_update_at", "updates", "checkpoint",
        "sources", "refused", "reservations", "live",
    }  # fmt: skip
    assert (data["available"], data["on_hand"], data["at"]) == (35, -1_190, LOGGED_MS)
    assert sum(source["sells"] for source in data["sources"]) == data["available"]
    assert sum(source["on_hand"] for source in data["sources"]) == data["on_hand"]
    source = data["sources"][0]
    assert source["last_applied"] == {"offset": 2, "received_at": BASE_MS + 800_000}
    assert source["count"] == {
        "kind": "count", "update_id": "count-1", "quantity": 40, "basis": "AVAILABLE", "order_ref": None,
        "observed_at": BASE_MS, "received_at": BASE_MS + 800_000, "logged_at": LOGGED_MS, "offset": 0,
        "where": "inventory.updates-3@0",
    }  # fmt: skip
    [refused] = data["refused"]
    assert (refused["outcome"], refused["where"]) == ("duplicate", "inventory.updates-3@3")
    assert refused["update"]["update_id"] == "sale-1"
