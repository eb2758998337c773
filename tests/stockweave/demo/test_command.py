from __future__ import annotations

import importlib.util
import io
import socket

import pytest
from rich.console import Console
from typer.testing import CliRunner

from stockweave.demo.command import demo_app
from stockweave.errors import Fatal, Retriable
from stockweave.meter import Meter


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "polars" else find(name))
    with pytest.raises(Fatal) as error:
        CliRunner().invoke(demo_app, ["retail"], catch_exceptions=False)
    assert str(error.value) == "the demo needs polars: install it with pip install 'stockweave[demo]'"


def test_without_a_service_one_line_says_how_to_start_one() -> None:
    with socket.socket() as held:  # bound and not listening: nobody answers there
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(Retriable) as error:
            CliRunner().invoke(demo_app, ["retail", "--url", url], catch_exceptions=False)
    assert f"no service answers at {url}" in str(error.value)
    assert "stockweave up" in str(error.value)
    assert "\n" not in str(error.value)


def test_off_a_terminal_progress_is_plain_lines() -> None:
    out = io.StringIO()
    with Meter(Console(file=out, width=200), "feeding", 1_000, "events") as meter:
        meter.advance(400)
        meter.advance(600)
    assert out.getvalue().startswith("feeding: 1,000 of 1,000 events, ")
    assert out.getvalue().count("\n") == 1


def test_on_a_terminal_progress_is_a_bar_with_rate() -> None:
    out = io.StringIO()
    with Meter(Console(file=out, width=200, force_terminal=True), "feeding", 1_000, "events") as meter:
        meter.advance(1_000)
    assert "1,000" in out.getvalue()
    assert "/s" in out.getvalue()
    assert "━" in out.getvalue()
