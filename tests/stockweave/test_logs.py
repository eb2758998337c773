"""One line per event, whoever logs it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from stockweave.logs import configure_logs


@pytest.fixture(autouse=True)
def _former_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_ours_and_the_libraries_lines_are_json_with_time_level_process_and_logger() -> None:
    sink = io.StringIO()
    configure_logs("worker", stream=sink)
    structlog.get_logger("streams.pump").info("committed", events=3)
    logging.getLogger("some.library").warning("odd %s", "thing")
    ours, library = (json.loads(line) for line in sink.getvalue().splitlines())
    assert {"event": "committed", "events": 3, "level": "info", "process": "worker"}.items() <= ours.items()
    assert ours["logger"] == "streams.pump"
    assert ours["at"].endswith("Z")
    assert {"event": "odd thing", "level": "warning", "logger": "some.library"}.items() <= library.items()


def test_an_exception_stays_on_its_line() -> None:
    sink = io.StringIO()
    configure_logs("api", stream=sink)
    try:
        raise ValueError("the reason")
    except ValueError:
        structlog.get_logger("api").exception("failed")
    (line,) = sink.getvalue().splitlines()
    assert "ValueError: the reason" in json.loads(line)["exception"]


def test_request_chatter_is_left_out() -> None:
    sink = io.StringIO()
    configure_logs("api", stream=sink)
    logging.getLogger("aiohttp.access").info("GET / 200")
    assert sink.getvalue() == ""
