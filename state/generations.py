"""Follows the record of generations, with each generation's topic as it stands in the cluster.

A worker and the API each have one follower, on a thread of its own; commands use `read` and `write`. What the record
names is looked up anew whenever it changes, for a topic that was dropped and made again is another generation.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import structlog

from schemas.admin import Deployed, find_generation
from schemas.generation_log import GenerationLog, read, write
from schemas.generations import Generation, Generations
from stockweave.errors import Fatal
from stockweave.settings import Settings

__all__ = ["Directions", "GenerationsFollower", "delete_other_folders", "look_up", "read", "write"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Directions:
    """The record, with its topics as deployed. `candidate`, `previous`: None also where the topic is gone."""

    live: Deployed
    candidate: Deployed | None
    previous: Deployed | None


class GenerationsFollower:
    """Reads the record, and goes on reading; on one thread."""

    def __init__(self, settings: Settings, bootstrap_servers: str) -> None:
        self._settings = settings
        self._bootstrap_servers = bootstrap_servers
        self._log = GenerationLog(settings, bootstrap_servers)
        self._told: Generations | None = None

    def poll(self, timeout_s: float) -> Directions | None:
        """The newest record if it is another than the last one told, which the first is; None otherwise.

        Raises:
            Retriable: a topic could not be looked up; the record comes with a later call.
            Fatal: the record cannot be read, or its live generation has no topic that can be used.
        """
        self._log.poll(timeout_s)
        newest = self._log.newest
        if self._log.ended_at < 0 or newest == self._told:
            return None
        directions = look_up(self._settings, self._bootstrap_servers, newest)
        self._told = newest
        return directions

    def close(self) -> None:
        """Leave Kafka."""
        self._log.close()


def look_up(settings: Settings, bootstrap_servers: str, generations: Generations) -> Directions:
    """The topics of a record.

    Raises:
        Retriable: Kafka does not answer.
        Fatal: the live generation's topic is gone, or has another number of partitions than the updates.
    """
    live = find_generation(settings, bootstrap_servers, generations.live)
    if live is None:
        raise Fatal(
            f"topic {generations.live.topic} of the live generation is gone; restart to create it, and rows are folded "
            "anew into it"
        )

    def other(generation: Generation | None) -> Deployed | None:
        if generation is None:
            return None
        try:
            return find_generation(settings, bootstrap_servers, generation)
        except Fatal as why:  # of the live one alone does anything depend
            log.warning("generation_unusable", number=generation.number, why=str(why))
            return None

    return Directions(live, other(generations.candidate), other(generations.previous))


def delete_other_folders(parent: Path, kept: set[str]) -> None:
    """Delete the local state of generations that are not `kept`; the folder of each has its name below `parent`."""
    for folder in parent.iterdir() if parent.is_dir() else ():
        if folder.is_dir() and folder.name not in kept:
            shutil.rmtree(folder)
            log.info("generation_deleted_here", path=str(folder))
