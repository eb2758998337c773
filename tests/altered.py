"""Topics set otherwise than they were made, as an operator may have done."""

from __future__ import annotations

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from stockweave.clients import CLIENT_LOGGER, client_config


def alter(bootstrap_servers: str, topic: str, setting: str, value: str) -> None:
    """Set it, and wait until the broker says so: it answers a moment before it has heard of it itself."""
    admin = AdminClient(client_config(bootstrap_servers), logger=CLIENT_LOGGER)
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    altered = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([altered])[altered].result()
    asked = ConfigResource(ResourceType.TOPIC, topic)
    while admin.describe_configs([asked])[asked].result()[setting].value != value:
        pass
