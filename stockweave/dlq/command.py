"""`stockweave dlq`: what could not be used, in words; once more, after a mapping was mended; or no more."""

from __future__ import annotations

import base64
import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from connectors.configuration.load import well
from connectors.kinds import kinds
from schemas.admin import ensure_topics, find_topics
from schemas.codec import Codec
from schemas.dead_letters import DROPPED, ERRORS, RETRIED
from schemas.registry import open_registry
from schemas.topics import SKU_MAP
from stockweave.dlq.letters import Letter, Wanted, one, settle, unsettled
from stockweave.dlq.retry import retry
from stockweave.errors import Rejected
from stockweave.replay.session import kafka
from stockweave.settings import Settings
from stockweave.skus.table import sku_map

AT_ONCE = 1_000


def show_all(settings: Settings, wanted: Wanted, limit: int, *, json: bool) -> None:
    """Print letters, the oldest first.

    Raises:
        Retriable: Kafka does not answer.
    """
    with kafka(settings, Console(stderr=True)) as connected:
        servers = connected.bootstrap_servers or ""
        letters = unsettled(find_topics(connected, servers), servers, _codec(connected), wanted)
        found = list(islice(letters, limit))
    if json:
        sys.stdout.buffer.write(b"".join(orjson.dumps(_as_json(letter)) + b"\n" for letter in found))
        return
    table = Table("id", "at", "feed", "reason", "what")
    for letter in found:
        table.add_row(letter.id, _at(letter), letter.feed or letter.stage, letter.reason, letter.detail)
    Console().print(table if found else "there are none")


def show_one(settings: Settings, letter_id: str, *, json: bool) -> None:
    """Print one letter with all that is known of it.

    Raises:
        Rejected: there is none of that id.
        Retriable: Kafka does not answer.
    """
    with kafka(settings, Console(stderr=True)) as connected:
        servers = connected.bootstrap_servers or ""
        letter = one(find_topics(connected, servers), servers, _codec(connected), letter_id)
    if json:
        sys.stdout.buffer.write(orjson.dumps(_as_json(letter)) + b"\n")
        return
    out = Console()
    out.print(f"{letter.id}, {_at(letter)}: {letter.reason}", f"{letter.detail}\n", sep="\n", markup=False)
    for name, value in letter.headers.items():
        if not name.startswith(f"{ERRORS}exception"):
            out.print(f"{name}: {value.decode(errors='replace')}", markup=False, highlight=False)
    out.print(f"\n{(letter.original or b'').decode(errors='replace')}", markup=False, highlight=False)


def retry_all(settings: Settings, wanted: Wanted, path: Path | None) -> bool:
    """Send letters again, and print what came of them; whether none is left.

    Args:
        settings: of the deployment.
        wanted: which.
        path: of the suppliers' files; for letters of feeds.

    Raises:
        Rejected: a file has a fault, or none of the ids is of a letter that is not settled.
        Retriable: Kafka does not answer.
    """
    feeds = {} if path is None else well(path, kinds()).feeds
    retried, left = 0, 0
    with kafka(settings, Console(stderr=True)) as connected:
        servers = connected.bootstrap_servers or ""
        topics = ensure_topics(connected, servers)
        is_mapped = any(feed.config.mapping.sku_map is not None for feed in feeds.values())
        skus = sku_map(topics[SKU_MAP.name], servers) if is_mapped else None
        codec = _codec(connected)
        letters = unsettled(topics, servers, codec, wanted)
        while some := list(islice(letters, AT_ONCE)):
            outcome = retry(some, feeds, topics, servers, codec, skus)
            settle(topics, servers, outcome.retried, RETRIED)
            retried, left = retried + len(outcome.retried), left + len(outcome.left)
            for letter, why in outcome.left:
                sys.stdout.write(f"{letter.id}: {why}\n")
    if wanted.ids and not retried + left:
        raise Rejected("unknown_letter", "there is no such letter, or it is settled; see `stockweave dlq list`")
    sys.stdout.write(f"{retried} retried, {left} left\n")
    return left == 0


def drop_all(settings: Settings, wanted: Wanted) -> None:
    """Show letters no more. They stay in the topic.

    Raises:
        Rejected: nothing says which.
        Retriable: Kafka does not answer.
    """
    if wanted.is_all:
        raise Rejected("everything", "name ids, or --feed, --reason or --key: nothing is dropped by mistake")
    with kafka(settings, Console(stderr=True)) as connected:
        servers = connected.bootstrap_servers or ""
        topics = ensure_topics(connected, servers)
        letters = list(unsettled(topics, servers, _codec(connected), wanted))
        settle(topics, servers, letters, DROPPED)
    sys.stdout.write(f"{len(letters)} dropped\n")


def _codec(connected: Settings) -> Codec:
    return Codec("StockUpdate", open_registry(connected))


def _at(letter: Letter) -> str:
    return datetime.fromtimestamp(letter.at_ms / 1_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _as_json(letter: Letter) -> dict[str, Any]:
    original = letter.original or b""
    try:
        body = {"original": original.decode()}
    except UnicodeDecodeError:
        body = {"originalBase64": base64.b64encode(original).decode()}
    return {
        "id": letter.id,
        "at": _at(letter),
        "stage": letter.stage,
        "feed": letter.feed or None,
        "reason": letter.reason,
        "detail": letter.detail,
        "headers": {name: value.decode(errors="replace") for name, value in letter.headers.items()},
        **body,
    }
