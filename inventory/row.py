"""A row under the fold: opened from its bytes, changed source by source, encoded as its next version.

Only the sources that are touched are decoded, so a sale of a SKU that hundreds of stores sell costs no more than one of
a SKU that two sell. Bytes are what is kept between batches: opening them anew is cheaper than the cache misses of
objects that were kept (measured). Called by `inventory.fold`.
"""

from __future__ import annotations

import msgspec

from schemas.rows import PackedRow, Source, decode_packed_row, decode_source, encode


class Row:
    """The row of one SKU.

    `sources`: the decoded ones, by source key; `changed`: keys of those that an update changed; `changed_at`:
    received_at of the last such update, in ms.

    Args:
        sku: of the row.
        stored: the row as last encoded, None where there is none yet.
    """

    __slots__ = ("_on_hand_before", "_packed", "changed", "changed_at", "sources")

    def __init__(self, sku: str, stored: bytes | None) -> None:
        self._packed = PackedRow(sku, 0, 0, 0, {}) if stored is None else decode_packed_row(stored)
        self._on_hand_before: dict[str, int] = {}
        self.sources: dict[str, Source] = {}
        self.changed: set[str] = set()
        self.changed_at = 0

    def open_source(self, key: str) -> Source:
        """Decode a source that is not open yet; a new one where the row has none."""
        packed = self._packed.sources.get(key)
        source = self.sources[key] = Source() if packed is None else decode_source(packed)
        self._on_hand_before[key] = source.on_hand
        return source

    def close(self) -> bytes:
        """The row with its changes, encoded as its next version."""
        packed = self._packed
        for key in self.changed:
            source = self.sources[key]
            packed.on_hand += source.on_hand - self._on_hand_before[key]
            packed.sources[key] = msgspec.Raw(encode(source))
        packed.version += 1
        packed.changed_at = self.changed_at
        return encode(packed)
