from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stockweave.broker.jars import KAFKA_VERSION
from stockweave.broker.server_properties import server_properties
from stockweave.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("worker", "api", "connectors")
SPEC = jsonschema.Draft202012Validator(json.loads((Path(__file__).parent / "compose-spec.json").read_text()))

WORKERS_NEED = (
    "auto.create.topics.enable",
    "offsets.topic.replication.factor",
    "transaction.state.log.replication.factor",
    "transaction.state.log.min.isr",
    "group.initial.rebalance.delay.ms",
    "group.consumer.session.timeout.ms",
    "group.consumer.min.session.timeout.ms",
    "group.consumer.heartbeat.interval.ms",
    "group.consumer.min.heartbeat.interval.ms",
)


def test_the_file_is_valid_compose() -> None:
    assert [f"{'/'.join(map(str, e.path))}: {e.message}" for e in SPEC.iter_errors(COMPOSE)] == []


def test_the_schema_tells_a_broken_file() -> None:
    broken = copy.deepcopy(COMPOSE)
    broken["services"]["worker"]["depends_on"] = {"kafka": {"condition": "service_is_fine"}}
    assert not SPEC.is_valid(broken)


def test_the_brokers_settings_are_those_of_the_embedded_one() -> None:
    text = server_properties(Path("data"), 9092, 9093, {})
    embedded = dict(line.split("=", 1) for line in text.splitlines())
    composed = SERVICES["kafka"]["environment"]
    for name in WORKERS_NEED:
        assert composed["KAFKA_" + name.replace(".", "_").upper()] == embedded[name], name
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_every_port_is_published_on_loopback_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", OURS)
def test_our_services_wait_for_a_healthy_kafka_and_run_with_few_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert service["command"][0] == name
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", OURS)
def test_every_setting_exists_and_names_the_inner_door_of_kafka(name: str) -> None:
    environment = SERVICES[name]["environment"]
    fields = {"STOCKWEAVE_" + field.upper() for field in Settings.model_fields}
    assert set(environment) <= fields
    inside = f"INSIDE://{environment['STOCKWEAVE_BOOTSTRAP_SERVERS']},"
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].startswith(inside)
    values = {key.removeprefix("STOCKWEAVE_").lower(): value for key, value in environment.items()}
    Settings(_env_file=None, **values)


def test_a_health_check_asks_the_port_that_is_set() -> None:
    assert f":{SERVICES['worker']['environment']['STOCKWEAVE_METRICS_PORT']}/metrics" in str(SERVICES["worker"])
    assert f":{SERVICES['connectors']['environment']['STOCKWEAVE_METRICS_PORT']}/metrics" in str(SERVICES["connectors"])
    assert f":{SERVICES['api']['environment']['STOCKWEAVE_API_PORT']}/readyz" in str(SERVICES["api"])


def test_what_must_last_lies_in_named_volumes() -> None:
    volumes = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    named = {volume for volume in volumes if not volume.startswith(".")}
    assert named == set(COMPOSE["volumes"]) == {"kafka-data", "api-data", "connectors-data"}
    assert "volumes" not in SERVICES["worker"], "replicas of the worker must not share a folder"
