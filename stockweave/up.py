"""`stockweave up`: the embedded broker (or a named cluster), topics and processes, as stages of one supervisor."""

from __future__ import annotations

import http.client
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead
from rich.console import Console

from schemas.admin import ensure_topics
from stockweave.broker.kafka import EmbeddedKafka, kafka_answers
from stockweave.errors import Fatal
from stockweave.folder_lock import lock_folder
from stockweave.ports import free_port, is_free
from stockweave.settings import Settings
from stockweave.supervisor import ChildSpec, Stage, Supervisor

PORT_MAX = 65_535
_PROBE_S = 0.5
_API_STOP_S = 10.0
_CONNECTORS_STOP_S = 30.0  # for the rows on their way, and for what Kafka has not acknowledged
_WORKER_STOP_S = 20.0  # to finish and commit the batch in hand
_BROKER_STOP_S = 20.0
EXAMPLE_SKU = "1082185"  # of the retail data: bananas, sold in 112 stores


def up(settings: Settings, console: Console, feed_events: int = 0) -> None:
    """Run everything until a signal stops it.

    Args:
        settings: of the whole deployment.
        console: where states are shown.
        feed_events: so many events of the retail demo are fed once all is up, unless there is data already.

    Raises:
        Fatal: a port or the folder is in use, or a process cannot start.
        Retriable: the named Kafka does not answer.
    """
    data_dir = settings.data_dir.absolute()
    with lock_folder(data_dir, "stockweave"):
        api_port = settings.api_port or free_port()
        if not is_free(api_port, settings.api_host):
            raise Fatal(
                f"port {api_port} on {settings.api_host} is in use, and the API needs it: stop what listens there, "
                "or choose another with --api-port (STOCKWEAVE_API_PORT)"
            )
        _check_metrics_ports(settings, api_port)
        stages = [_kafka(settings, console), *_processes(settings, data_dir, api_port)]
        if feed_events:
            stages += _feed(settings, data_dir, api_port, feed_events, console)
        Supervisor(stages, console, on_up=lambda: _tell_addresses(settings, api_port, console)).run()


def _check_metrics_ports(settings: Settings, api_port: int) -> None:
    others = {api_port: "the API's"} | ({} if settings.bootstrap_servers else {settings.broker_port: "the broker's"})
    for worker in range(settings.workers):
        port = _metrics_port(settings, worker)
        if port is None:
            return
        whose = f"port {port}, for the metrics of worker-{worker}"
        remedy = f"choose another STOCKWEAVE_METRICS_PORT: each of the {settings.workers} workers takes the next one"
        if port > PORT_MAX:
            raise Fatal(f"{whose}, is beyond {PORT_MAX}; {remedy}")
        if port in others:
            raise Fatal(f"{whose}, is {others[port]}; {remedy}")
        if not is_free(port, settings.metrics_host, "STOCKWEAVE_METRICS_HOST"):
            raise Fatal(f"{whose}, is in use on {settings.metrics_host}: stop what listens there, or {remedy}")


def _metrics_port(settings: Settings, worker: int) -> int | None:
    return None if settings.metrics_port is None else settings.metrics_port + worker


def _kafka(settings: Settings, console: Console) -> Stage:
    bootstrap_servers = kafka_address(settings)
    stage = Stage(
        gate=lambda: kafka_answers(bootstrap_servers, _PROBE_S),
        gate_s=60.0 if settings.bootstrap_servers else 180.0,
        waiting_for=f"Kafka at {bootstrap_servers} (STOCKWEAVE_BOOTSTRAP_SERVERS)",
        then=lambda: _create_topics(settings, bootstrap_servers),
    )
    if settings.bootstrap_servers:
        return stage
    kafka = EmbeddedKafka(
        settings.data_dir, settings.broker_port, maven_repository=settings.maven_repository, console=console
    )
    kafka.fetch()  # here, and not under the supervisor, so that Ctrl-C ends a slow download at once
    broker = ChildSpec(
        name="broker",
        command=kafka.prepare,
        log=kafka.log_file,
        output=kafka.output_file,
        is_ready=lambda: kafka.answers(_PROBE_S),
        ready_note=f"on {bootstrap_servers}",
        stop_s=_BROKER_STOP_S,
        explain=kafka.died,
    )

    def then() -> None:
        kafka.refuse_strays()
        _create_topics(settings, bootstrap_servers)

    return Stage([broker], stage.gate, stage.gate_s, stage.waiting_for, then)


def kafka_address(settings: Settings) -> str:
    """The named cluster, or where the embedded broker listens."""
    return settings.bootstrap_servers or f"127.0.0.1:{settings.broker_port}"


def _create_topics(settings: Settings, bootstrap_servers: str) -> None:
    ensure_topics(settings, bootstrap_servers)


def _processes(settings: Settings, data_dir: Path, api_port: int) -> list[Stage]:
    metrics_dir = data_dir / "run" / "metrics"
    shutil.rmtree(metrics_dir, ignore_errors=True)  # counters of the processes of a former run
    metrics_dir.mkdir(parents=True)

    def child(name: str, command: Sequence[str], stop_s: float, metrics_port: int | None = None) -> ChildSpec:
        probe_host = _probe_host(settings)
        is_api = name == "api"
        return ChildSpec(
            name=name,
            command=lambda: [sys.executable, "-m", "stockweave", *command],
            log=data_dir / "logs" / f"{name}.log",
            env=_environment(settings, data_dir / name, api_port, metrics_dir, metrics_port),
            is_ready=(lambda: _is_caught_up(probe_host, api_port)) if is_api else None,
            ready_note=f"on http://{settings.api_host}:{api_port}, caught up" if is_api else "",
            stop_s=stop_s,
            on_exit=lambda pid: mark_process_dead(pid, str(metrics_dir)),  # type: ignore[no-untyped-call]
        )

    workers = [
        child(f"worker-{i}", ["worker"], _WORKER_STOP_S, _metrics_port(settings, i)) for i in range(settings.workers)
    ]
    others = [child("api", ["api"], _API_STOP_S)]
    if settings.suppliers is not None:
        command = ["connectors", "run", str(settings.suppliers.absolute())]
        others.append(child("connectors", command, _CONNECTORS_STOP_S))
    return [Stage(workers), Stage(others)]


def _feed(settings: Settings, data_dir: Path, api_port: int, events: int, console: Console) -> list[Stage]:
    host = _probe_host(settings)
    url = f"http://{host}:{api_port}"

    def command() -> list[str]:
        if b'"sku"' in _get(host, api_port, "/api/v1/inventory?limit=1")[1]:
            return [sys.executable, "-c", "print('there is data from a former run; nothing is fed')"]
        return [sys.executable, "-m", "stockweave", "demo", "retail", "--events", str(events), "--url", url]

    feeder = ChildSpec(
        name="feed",
        command=command,
        log=data_dir / "logs" / "feed.log",
        on_exit=lambda _: _tell_what_to_try(url, console),
        once=True,
    )
    return [Stage(gate=lambda: _is_caught_up(host, api_port), waiting_for="the API"), Stage([feeder])]


def _environment(
    settings: Settings, data_dir: Path, api_port: int, metrics_dir: Path, metrics_port: int | None
) -> Mapping[str, str]:
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "STOCKWEAVE_BOOTSTRAP_SERVERS": kafka_address(settings),
        "STOCKWEAVE_DATA_DIR": str(data_dir),
        "STOCKWEAVE_API_PORT": str(api_port),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_dir),
        **({} if metrics_port is None else {"STOCKWEAVE_METRICS_PORT": str(metrics_port)}),
    }


def _probe_host(settings: Settings) -> str:
    return "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host  # noqa: S104 - compared


def _is_caught_up(host: str, port: int) -> bool:
    return _get(host, port, "/readyz")[0] == http.HTTPStatus.OK


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Status and body; 0 and nothing when there is no answer."""
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _tell_addresses(settings: Settings, api_port: int, console: Console) -> None:
    base = f"http://{settings.api_host}:{api_port}"
    console.print(
        f"\nStockweave is up: {base}/docs  {base}/readyz  {base}/metrics\n"
        f"Kafka: {kafka_address(settings)}   logs: {settings.data_dir.absolute() / 'logs'}   Ctrl-C stops all.",
        highlight=False,
        soft_wrap=True,
    )


def _tell_what_to_try(url: str, console: Console) -> None:
    console.print(
        f"\nOpen {url}/docs and {url}/api/v1/inventory?in_stock=true, or try:\n"
        f"  curl '{url}/api/v1/inventory?sku={EXAMPLE_SKU}'\n"
        "Everything keeps running; Ctrl-C stops it.",
        highlight=False,
        soft_wrap=True,
    )
