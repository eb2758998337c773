"""Seeded random numbers as columns: splitmix64 over a counter, in polars.

Invariant: the same seed, purpose and length give the same numbers on every machine and with every version of polars,
which its own `sample` and `hash` do not promise. Used by `events` alone.
"""

from __future__ import annotations

import hashlib

import polars as pl

_U64 = pl.UInt64
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def draws(length: int, seed: int, purpose: str) -> pl.Series:
    """`length` uniform 64-bit numbers; another `purpose` gives an independent series of the same seed."""
    start = int.from_bytes(hashlib.blake2b(f"{seed}:{purpose}".encode(), digest_size=8).digest(), "big")
    z = pl.int_range(1, length + 1, dtype=_U64) * pl.lit(_GOLDEN, _U64) + pl.lit(start, _U64)
    # Division by a power of two is the shift; multiplication of u64 wraps, as the generator wants.
    z = (z ^ (z // (1 << 30))) * pl.lit(_MIX_1, _U64)
    z = (z ^ (z // (1 << 27))) * pl.lit(_MIX_2, _U64)
    return pl.select((z ^ (z // (1 << 31))).alias(purpose)).to_series()


def chosen(length: int, count: int, seed: int, purpose: str) -> pl.Series:
    """A mask of `length` with exactly `count` (at most all) places true."""
    return draws(length, seed, purpose).rank("ordinal") <= count
