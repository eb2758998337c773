"""The whole data once, and a small part of it for what needs no more."""

from __future__ import annotations

import polars as pl
import pytest

from stockweave.demo.events import Stream, load_lines, retail_stream


@pytest.fixture(scope="session")
def lines() -> pl.DataFrame:
    return load_lines()


@pytest.fixture(scope="session")
def some_lines(lines: pl.DataFrame) -> pl.DataFrame:
    """About 25,000 lines of all stores: one product in 97, with petrol (its units are small) among them."""
    petrol = lines.group_by("product").agg(pl.col("quantity").sum()).sort("quantity")["product"][-1]
    return lines.filter(pl.col("product") % 97 == petrol % 97)


@pytest.fixture(scope="session")
def whole(lines: pl.DataFrame) -> Stream:
    return retail_stream(lines, seed=7)


@pytest.fixture(scope="session")
def part(some_lines: pl.DataFrame) -> Stream:
    return retail_stream(some_lines, seed=7)
