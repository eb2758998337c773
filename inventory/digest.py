"""What a stored row means, as bytes to compare, and the digest of a partition's rows.

Two folds of the same facts may differ in bookkeeping (how the log was cut into batches shows in versions, and the order
of repeated updates in offsets), so a row's version and changed_at and a source's received_at and offset are left out.
Called by all that compare rows: verify, rebuild, checkpoints.
"""

from __future__ import annotations

import hashlib

from schemas.rows import decode_row, encode

DIGEST_BYTES = 16


def meaning(row: bytes) -> bytes:
    """Canonical bytes of what an encoded row means: SKU, sum, sources, what is reserved; equal if and only if it is."""
    decoded = decode_row(row)
    for source in decoded.sources.values():
        source.received_at = source.offset = 0
    sources = sorted(decoded.sources.items(), key=_key)
    if not decoded.reserved:
        return encode((decoded.sku, decoded.on_hand, sources))
    return encode((decoded.sku, decoded.on_hand, sources, sorted(decoded.reserved.items(), key=_key)))


def digest(row: bytes) -> bytes:
    """BLAKE2b of `meaning`, 16 bytes."""
    return hashlib.blake2b(meaning(row), digest_size=DIGEST_BYTES).digest()


class PartitionDigest:
    """Digest of all rows of a partition, added in the order of their keys."""

    def __init__(self) -> None:
        self.rows = 0
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._last = b""

    def add(self, key: bytes, row: bytes) -> bytes:
        """Add the next row; returns its own digest.

        Raises:
            ValueError: the key does not come after the last one.
        """
        if key <= self._last:
            raise ValueError(f"rows must come in the order of their keys: {key!r} after {self._last!r}")
        of_row = digest(row)
        self._hash.update(len(key).to_bytes(4, "big") + key + of_row)
        self._last = key
        self.rows += 1
        return of_row

    def hexdigest(self) -> str:
        """Of the rows so far, 32 hexadecimal digits."""
        return self._hash.hexdigest()


def _key(item: tuple[str, object]) -> str:
    return item[0]
