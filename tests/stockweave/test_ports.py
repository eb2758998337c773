from __future__ import annotations

import pytest

from stockweave import ports


def test_a_port_that_is_spoken_for_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that a broker is to listen on at once were once the same, and it did not start."""
    monkeypatch.setattr(ports, "_RANGE", range(20_000, 20_002))
    monkeypatch.setattr(ports, "is_free", lambda _: True)
    assert {ports.free_port(20_000) for _ in range(20)} == {20_001}
