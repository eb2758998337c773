"""`stockweave explain SKU`: finds its Kafka, asks the explainer, and prints what it found. Changes nothing."""

from __future__ import annotations

import time

from rich.console import Console

from stockweave.meter import Meter
from stockweave.replay.explain.explain import REFUSED_MAX, Explained, Explainer
from stockweave.replay.explain.report import as_json, report
from stockweave.replay.explain.when import parse_as_of
from stockweave.replay.session import kafka
from stockweave.settings import Settings

COLUMNS = 100  # where the output is no terminal
ALL_REFUSED_MAX = 10_000  # with --all; a supplier that sends everything twice makes millions


def run(settings: Settings, sku: str, as_of: str | None, *, everything: bool, json: bool) -> None:
    """The command: explain on stdout; progress goes to stderr.

    Args:
        settings: of the deployment.
        sku: asked for.
        as_of: a time as given; None: now.
        everything: show all, however much it is.
        json: one JSON object in place of words.

    Raises:
        Rejected: no such SKU.
        Fatal: `as_of` is no time, the log lacks updates, or there is no such deployment.
        Retriable: Kafka or the registry does not answer.
    """
    as_of_ms = None if as_of is None else parse_as_of(as_of, time.time_ns() // 1_000_000)
    notes = Console(stderr=True, highlight=False)
    with kafka(settings, notes) as connected:
        found = _asked(connected, sku, as_of_ms, notes, ALL_REFUSED_MAX if everything else REFUSED_MAX)
    out = Console(highlight=False, markup=False, emoji=False)
    if json:
        out.print_json(data=as_json(found), indent=None)
        return
    if not out.is_terminal:
        out.width = COLUMNS
    for part in report(found, everything=everything):
        out.print(part, soft_wrap=isinstance(part, str))


def _asked(settings: Settings, sku: str, as_of_ms: int | None, notes: Console, refused_max: int) -> Explained:
    expected = 0
    with Meter(notes, "reading", 0, "records") as meter:

        def more(count: int) -> None:
            nonlocal expected
            expected += count
            meter.expect(expected)

        with Explainer(settings, meter.advance, more, refused_max) as explainer:
            return explainer.explain(sku, as_of_ms)
