from __future__ import annotations

import logging

import pytest

from stockweave import clients


def test_a_complaint_that_repeats_is_written_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr("stockweave.clients.time.monotonic", lambda: now_s)
    with caplog.at_level(logging.INFO, logger=clients.CLIENT_LOGGER.name):
        for _ in range(50):
            clients.CLIENT_LOGGER.error("TESTFAIL [client-1] connection refused")
        clients.CLIENT_LOGGER.error("TESTOTHER [client-1] something else")
        now_s += clients.REPEAT_AFTER_S
        clients.CLIENT_LOGGER.error("TESTFAIL [client-2] connection refused")
    assert [record.getMessage().split()[0] for record in caplog.records] == ["TESTFAIL", "TESTOTHER", "TESTFAIL"]
