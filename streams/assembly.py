"""Puts the real world together for one worker: its folder, its topics, its clients, its stores."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple, cast

from confluent_kafka import Consumer, Producer

from inventory.stock import Limits
from schemas.admin import Deployed, ensure_topics
from schemas.codec import Codec
from schemas.registry import open_registry
from schemas.topic_settings import check_settings
from schemas.topics import ALERTS, DAY_MS, DEAD_LETTERS, RESERVATION_STEPS, RESERVATIONS, STOCK, UPDATES
from state.database import Resources
from state.follower import open_consumer
from state.generations import GenerationsFollower
from state.store import PartitionStore
from stockweave.clients import CLIENT_LOGGER, Config, client_config, make_known, reading_config
from stockweave.errors import Fatal
from stockweave.settings import Settings
from stockweave.world import GroupConsumer, SystemClock, TransactionalProducer
from streams.alerts import Alerts
from streams.batch import Folder
from streams.decider import Decider
from streams.identity import Identity
from streams.policies import FollowedPolicies
from streams.processor import Processor
from streams.standby import Standby
from streams.transaction import Watchdog, hung_s, producer_config
from streams.world import World

WRITTEN = (STOCK, RESERVATIONS, RESERVATION_STEPS, ALERTS, DEAD_LETTERS)  # by the transactions of a worker


class Engine(NamedTuple):
    """What the pump runs."""

    processor: Processor
    folder: Folder
    standby: Standby
    policies: FollowedPolicies


def group_config(bootstrap_servers: str, group: str) -> Config:
    """Settings of the consumer in the workers' group.

    The group protocol is KIP-848's with the range assignor: incremental, and it keeps partitions of one number together
    on one worker, which topics that are folded together need. The broker sets the session's timeout.
    """
    return client_config(bootstrap_servers) | {
        "group.id": group,
        "group.protocol": "consumer",
        "group.remote.assignor": "range",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "fetch.queue.backoff.ms": 5,
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 64 << 10,
    }


def commands_config(bootstrap_servers: str) -> Config:
    """Settings of the consumer of commands: small fetches at once, and what is kept no longer is passed over."""
    return reading_config(bootstrap_servers, "stockweave-commands") | {
        "enable.partition.eof": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 100,
        "queued.max.messages.kbytes": 16 << 10,
    }


def facts_config(bootstrap_servers: str) -> Config:
    """Settings of the consumer that looks for facts which rows do not have: the end is told at once."""
    return reading_config(bootstrap_servers, "stockweave-facts") | {
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 10,
        "queued.max.messages.kbytes": 16 << 10,
    }


def connect(settings: Settings, identity: Identity) -> Engine:
    """Build the engine of one worker process.

    Raises:
        Retriable: Kafka or the registry does not answer yet.
        Fatal: a setting is missing or wrong.
    """
    if settings.bootstrap_servers is None:
        raise Fatal("STOCKWEAVE_BOOTSTRAP_SERVERS is not set; set it to host:port of Kafka, or use `stockweave up`")
    bootstrap = settings.bootstrap_servers
    topics = ensure_topics(settings, bootstrap)
    check_settings(bootstrap, topics, WRITTEN)
    registry = open_registry(settings)
    policies = FollowedPolicies(settings, bootstrap, Codec("Policy", registry))
    partitions = topics[UPDATES.name].partitions
    row_cache_bytes = settings.row_cache_bytes // partitions
    resources = Resources(settings.block_cache_bytes, settings.write_buffer_bytes, row_cache_bytes, partitions)
    stock = settings.data_dir / "stock"
    live = topics[STOCK.name]

    def open_store(generation: Deployed, partition: int) -> PartitionStore:
        return PartitionStore(stock / generation.generation / str(partition), resources, generation.generation)

    transactional_id = f"{settings.group}-{identity.worker_id}"
    producer = Producer(
        producer_config(bootstrap, transactional_id, settings.transaction_timeout_ms), logger=CLIENT_LOGGER
    )
    make_known(live.name, producer, bootstrap)
    uncommitted = client_config(bootstrap) | {"group.id": settings.group, "isolation.level": "read_uncommitted"}
    clock = SystemClock()
    world = World(
        consumer=cast("GroupConsumer", Consumer(group_config(bootstrap, settings.group), logger=CLIENT_LOGGER)),
        commands=Consumer(commands_config(bootstrap), logger=CLIENT_LOGGER),
        facts=Consumer(facts_config(bootstrap), logger=CLIENT_LOGGER),
        follower=open_consumer(bootstrap, live.name),
        ends=Consumer(uncommitted, logger=CLIENT_LOGGER),
        producer=cast("TransactionalProducer", producer),
        watchdog=Watchdog(clock, hung_s=hung_s(settings.transaction_timeout_ms)),
        clock=clock,
        open_store=partial(open_store, live),
    )
    standby = Standby(
        live, GenerationsFollower(settings, bootstrap), partial(open_consumer, bootstrap), open_store, stock
    )
    facts = Codec("ReservationFact", registry)
    decider = Decider(Codec("ReservationCommand", registry), facts, policies.now)
    alerts = Alerts(Codec("StockAlert", registry), policies.now, clock.now_ms)
    limits = Limits(settings.horizon_ms, settings.entries_max)
    folder = Folder(Codec("StockUpdate", registry), limits, topics[UPDATES.name].partitions, decider, alerts)
    retention_ms = settings.reservation_retention_days * DAY_MS
    processor = Processor(world, topics, facts, alerts, settings.batch_events_max, retention_ms)
    return Engine(processor, folder, standby, policies)
