"""Quantiles and the description of the machine, as every benchmark prints them."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

import psutil


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest of `values` that a fraction `q` of them does not exceed; NaN when there are none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def line(name: str, seconds: Sequence[float]) -> str:
    """Median, p99 and p99.9 in milliseconds."""
    figures = "  ".join(f"{label} {quantile(seconds, q) * 1e3:7.1f}" for label, q in QUANTILES)
    return f"{name:<28} {figures}  ms  (n={len(seconds)})"


QUANTILES = (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999))


def machine() -> str:
    """Cores, memory and Python."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{os.cpu_count()} cores, {memory_gib:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
