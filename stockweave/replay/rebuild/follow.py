"""Looks, for a while after a switch, whether workers and the API have followed, and says what was and was not seen.

It decides nothing: both follow the record by themselves, however long that takes. Called by rebuild.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping

import orjson

from schemas.admin import Deployed
from schemas.topics import UPDATES
from stockweave.replay.ends import log_ends
from stockweave.replay.rebuild.positions import Reach, positions, reaches
from stockweave.settings import Settings

WAIT_S = 30.0
POLL_S = 0.25
ANSWER_S = 2.0


def await_followers(settings: Settings, old: Deployed, new: Deployed, switched_at: Mapping[int, Reach]) -> list[str]:
    """Wait until workers fold into `new` and the API answers from it, or the time is over.

    Args:
        settings: where Kafka and the API are.
        old: the generation that was live.
        new: the one that is.
        switched_at: how far each partition of `new` was when the rebuild let go of it.

    Returns:
        What was seen, in lines.

    Raises:
        Retriable: Kafka does not answer.
    """
    deadline_s = time.monotonic() + WAIT_S
    while True:
        behind = _behind(settings, old, new)
        api = _api_generation(settings)
        if time.monotonic() > deadline_s or (not behind and api in (None, new.generation)):
            break
        time.sleep(POLL_S)
    return [_workers_line(settings, new, switched_at, behind), _api_line(settings, new, api)]


def _behind(settings: Settings, old: Deployed, new: Deployed) -> list[int]:
    """The partitions in which the old generation is still ahead, so that readers may not leave it."""
    partitions = range(new.partitions)
    was, now = (
        reaches(positions(settings.bootstrap_servers or "", topic.name, partitions), partitions) for topic in (old, new)
    )
    return [number for number in partitions if now[number].behind(was[number])]


def _workers_line(settings: Settings, new: Deployed, switched_at: Mapping[int, Reach], behind: list[int]) -> str:
    bootstrap, partitions = settings.bootstrap_servers or "", range(new.partitions)
    if behind:
        where = ", ".join(map(str, behind))
        return (
            f"workers: none has gone on in partitions {where} within {WAIT_S:.0f} s; is one running? Readers stay with "
            "the former generation until then, and follow by themselves"
        )
    now = reaches(positions(bootstrap, new.name, partitions), partitions)
    moved = [number for number in partitions if switched_at[number].behind(now[number])]
    ends = log_ends(bootstrap, settings.topic(UPDATES.name), partitions)
    waiting = sorted(number for number in partitions if number not in moved and ends[number][1] > now[number].updates)
    if waiting:
        where = ", ".join(map(str, waiting))
        return f"workers: updates wait in partitions {where}, and none has folded there yet; is one running?"
    if not moved:
        return "workers: no update has come since, so nothing shows yet that they have followed"
    return (
        f"workers: they go on in it (seen in {len(moved)} of {len(partitions)} partitions; no update waits elsewhere)"
    )


def _api_line(settings: Settings, new: Deployed, api: str | None) -> str:
    where = f"http://{settings.api_host}:{settings.api_port}"
    if api == new.generation:
        return f"api: {where} answers from it"
    if api is None:
        return f"api: {where} was not reached; its /readyz tells generation {new.generation} once it has followed"
    return (
        f"api: {where} still answers from generation {api}; it follows once the workers have caught up, and "
        f"its /readyz then tells {new.generation}"
    )


def _api_generation(settings: Settings) -> str | None:
    """What /readyz tells; None where nothing of ours answers."""
    host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host  # noqa: S104 - compared
    connection = http.client.HTTPConnection(host, settings.api_port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/readyz")
        told = orjson.loads(connection.getresponse().read())
        return str(told["generation"])
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError, KeyError, TypeError):
        return None
    finally:
        connection.close()
