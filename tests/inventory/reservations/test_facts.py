"""What facts make of rows, beside what the laws of reservations hold."""

from __future__ import annotations

from inventory.reservations.facts import row_to_come


def test_a_row_of_which_only_what_is_reserved_is_known_has_nothing_and_is_older_than_any_other() -> None:
    row = row_to_come("sku-1")
    assert (row.sku, row.version, row.on_hand, row.changed_at, row.sources, row.reserved) == ("sku-1", 0, 0, 0, {}, {})
