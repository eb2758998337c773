from __future__ import annotations

import pytest

from state.database import Resources


@pytest.fixture(scope="session", params=[0, 1 << 20], ids=["writes_through", "writes_back"])
def resources(request: pytest.FixtureRequest) -> Resources:
    return Resources(block_cache_bytes=4 << 20, write_buffer_bytes=8 << 20, row_cache_bytes=request.param)
