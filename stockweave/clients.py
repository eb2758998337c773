"""What every Kafka client of ours starts from: addresses, quick reconnects, and a logger in place of raw stderr."""

from __future__ import annotations

import logging

Config = dict[str, str | int | float | bool]

CLIENT_LOGGER = logging.getLogger("stockweave.kafka")
"""Given to every client as `logger=`; librdkafka would print each failed connection to stderr itself."""


def client_config(bootstrap_servers: str) -> Config:
    """Settings that all clients share; callers add their own."""
    return {
        "bootstrap.servers": bootstrap_servers,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1_000,  # a restarted broker is found again within a second
        "topic.metadata.refresh.interval.ms": 30_000,
    }
