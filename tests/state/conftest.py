from __future__ import annotations

import pytest

from state.store import Resources


@pytest.fixture(scope="session")
def resources() -> Resources:
    return Resources(block_cache_bytes=4 << 20, write_buffer_bytes=8 << 20)
