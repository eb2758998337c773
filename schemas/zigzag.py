"""An Avro long by hand, for the few places that frame bodies themselves."""

from __future__ import annotations


def zigzag(n: int) -> bytes:
    """The bytes of an Avro long (specification 1.12, "Binary encoding") that is not negative."""
    n <<= 1
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)
