"""How many files may be open, also under limits that this system does not have."""

from __future__ import annotations

import resource

import pytest

from state import open_files
from state.open_files import UNLIMITED, limit, raise_limit, share

INFINITE = resource.RLIM_INFINITY


class System:
    """The limits of a process, soft and hard."""

    def __init__(self, soft: int, hard: int, refusal: Exception | None = None) -> None:
        self.limits = (soft, hard)
        self.refusal = refusal

    def getrlimit(self, of: int) -> tuple[int, int]:
        assert of == resource.RLIMIT_NOFILE
        return self.limits

    def setrlimit(self, of: int, limits: tuple[int, int]) -> None:
        assert of == resource.RLIMIT_NOFILE
        if self.refusal is not None:
            raise self.refusal
        self.limits = limits


@pytest.mark.parametrize(
    ("before", "after", "may_be_open"),
    [
        ((128, 2_048), (2_048, 2_048), 2_048),
        ((2_048, 2_048), (2_048, 2_048), 2_048),
        ((256, INFINITE), (UNLIMITED, INFINITE), UNLIMITED),
        ((100_000, INFINITE), (100_000, INFINITE), 100_000),
        ((INFINITE, INFINITE), (INFINITE, INFINITE), UNLIMITED),
    ],
)
def test_the_limit_is_raised_to_what_the_system_allows_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, before: tuple[int, int], after: tuple[int, int], may_be_open: int
) -> None:
    system = System(*before)
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    assert raise_limit() == may_be_open
    assert system.limits == after
    assert limit() == may_be_open


@pytest.mark.parametrize("refusal", [ValueError("not allowed"), OSError("not permitted")])
def test_a_system_that_names_a_limit_and_takes_less_is_lived_with(
    monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    system = System(256, INFINITE, refusal)
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    assert raise_limit() == 256


def test_one_that_has_all_that_it_may_have_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, hard in [(2_048, 2_048), (100_000, INFINITE), (INFINITE, INFINITE)]:
        monkeypatch.setattr(resource, "getrlimit", System(soft, hard).getrlimit)
        monkeypatch.setattr(resource, "setrlimit", None)
        raise_limit()


@pytest.mark.parametrize(
    ("limit", "partitions", "files"),
    [
        (16_000, 4, 256),
        (1_024, 4, 88),
        (1_024, 5, 68),
        (1_026, 4, 88),
        (2_812, 4, 255),
        (2_816, 4, 256),
        (299, 4, 20),
        (309, 4, 20),
        (310, 4, 21),
        (16_000, 1_024, 20),
    ],
)
def test_each_store_has_its_share_of_three_quarters_beside_its_own_files(
    limit: int, partitions: int, files: int
) -> None:
    found = share(limit, partitions)
    assert (found, type(found)) == (files, int)  # RocksDB takes nothing else


def test_all_shares_together_leave_a_quarter_for_other_things() -> None:
    for allowed in range(1_000, 20_000, 777):
        for partitions in range(1, 17):
            held = share(allowed, partitions) + open_files.STORE_FILES
            if share(allowed, partitions) > open_files.ROWS_FILES_MIN:
                assert held * partitions * open_files.STORES_PER_PARTITION <= allowed * 3 / 4
