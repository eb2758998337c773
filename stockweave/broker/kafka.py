"""The embedded broker as an object: its folder, its start, the proof that it answers, its stop, and why it died.

Invariant: one process at a time owns a data folder (a lock that dies with its holder), and a folder that was formatted
is never formatted again. The supervisor runs `prepare()`'s command itself; tests call `start()` and `stop()`.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from rich.console import Console

from stockweave.broker.jars import default_cache, ensure_jars
from stockweave.broker.java import Java, find_java
from stockweave.broker.jvm import class_path, tuning_options
from stockweave.broker.server_properties import NODE_ID, server_properties
from stockweave.children import describe_exit, last_lines, spawn
from stockweave.clients import CLIENT_LOGGER, client_config
from stockweave.errors import Fatal, Retriable
from stockweave.folder_lock import lock_folder
from stockweave.ports import free_port, is_free

_LOG_CONFIG = Path(__file__).with_name("log4j2.properties")
_READY_S = 120.0  # after a kill Kafka checks its unflushed segments before it listens
_STOP_S = 20.0
_PORT_IN_USE = re.compile(r"Address already in use|Socket server failed to bind")


class EmbeddedKafka:
    """One Kafka node on loopback with its data in `<data_dir>/broker` and its log in `<data_dir>/logs/broker.log`.

    Args:
        data_dir: kept between runs.
        port: where clients connect; must be free.
        heap_mb: the JVM's largest heap, in MiB.
        maven_repository: where the jars come from if the cache lacks them; None for the public repository.
        cache: folder of the jars; by default the user's.
        properties: broker settings on top of ours.
        console: where the fetch of the jars shows its progress.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int,
        *,
        heap_mb: int = 700,
        maven_repository: str | None = None,
        cache: Path | None = None,
        properties: Mapping[str, str] | None = None,
        console: Console | None = None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        self.port = port
        self.log_file = self.data_dir / "logs" / "broker.log"
        self.output_file = self.data_dir / "logs" / "broker.out"
        self._folder = self.data_dir / "broker"
        self._kafka_dir = self._folder / "kafka"
        self._heap_mb = heap_mb
        self._maven_repository = maven_repository
        self._cache = cache or default_cache()
        self._properties = dict(properties or {})
        self._console = console or Console(stderr=True)
        self._java: Java | None = None
        self._jars: list[Path] = []
        self._lock: IO[bytes] | None = None
        self._log_start_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the JVM that `start` started, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def fetch(self) -> None:
        """Find Java and have the jars; `prepare` does it too, but this alone may take long the first time.

        Raises:
            Fatal: no Java, or a jar could not be fetched.
        """
        self._java = self._java or find_java()
        self._jars = self._jars or ensure_jars(self._cache, self._maven_repository, self._console)

    def prepare(self) -> list[str]:
        """Check and write all that a start needs; returns the command to run. Cheap when called again.

        Raises:
            Fatal: no Java, no jars, the port or the folder is in use, or the folder is not a broker's.
        """
        self._lock = self._lock or lock_folder(self._folder, "broker")
        if not is_free(self.port):
            raise Fatal(_port_message(self.port))
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.fetch()
        controller_port = free_port(self.port)
        config = self._folder / "server.properties"
        config.write_text(server_properties(self._kafka_dir, self.port, controller_port, self._properties), "utf-8")
        if self._kafka_dir.exists():
            self._check_formatted()
        else:
            self._format(controller_port)
        self._log_start_bytes = self.log_file.stat().st_size if self.log_file.exists() else 0
        self.output_file.unlink(missing_ok=True)
        return [*self._jvm(server=True), "kafka.Kafka", str(config)]

    def start(self) -> Self:
        """Start and wait until it answers; what `prepare`, `wait_ready` and `died` raise comes through."""
        command = self.prepare()
        self._process = spawn(command, self.output_file)
        deadline = time.monotonic() + _READY_S
        while not self.answers(timeout_s=0.5):
            returncode = self._process.poll()
            if returncode is not None:
                raise self.died(returncode)
            if time.monotonic() > deadline:
                self.kill()
                raise self.silent(_READY_S)
        return self

    def answers(self, timeout_s: float) -> bool:
        """Whether the broker takes requests, asked for at most `timeout_s`."""
        return kafka_answers(self.bootstrap_servers, timeout_s)

    def refuse_strays(self) -> None:
        """To be called once it answers, before anything is written.

        Raises:
            Fatal: Kafka found topics that its metadata no longer knows, and set them aside: going on would begin anew.
        """
        strays = sorted(path.name for path in self._kafka_dir.glob("*-stray") if _held_something(path))
        if strays:
            raise Fatal(
                f"the broker's metadata in {self._kafka_dir} is damaged: it no longer knows {len(strays)} topic "
                f"partitions ({strays[0]} …): restore the folder from a backup, or delete {self.data_dir} to begin anew"
            )

    def stop(self) -> None:
        """Stop in order: SIGTERM, and SIGKILL after 20 s; gives up the folder. Nothing happens if it isn't running."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        self.release()

    def kill(self) -> None:
        """SIGKILL, as a power cut would; `start` works afterwards."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def release(self) -> None:
        """Give up the folder's lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def died(self, returncode: int) -> Fatal | Retriable:
        """Why the JVM ended, in one line, from what it logged since the last `prepare`."""
        lines = self.complaints()
        if any(_PORT_IN_USE.search(line) for line in lines):
            if is_free(self.port):  # then it was the controller's, and the next start draws another
                return Retriable("the port drawn for the broker's controller was taken meanwhile; start again")
            return Fatal(_port_message(self.port))
        if returncode < 0:
            return Fatal(f"the broker was ended by {describe_exit(returncode)}; start again, see {self.log_file}")
        return Fatal(
            f"the broker stopped with {describe_exit(returncode)} on its folder {self._kafka_dir}, its last error: "
            f"{_last_error(lines)}; see {self.log_file}; if the folder is damaged, restore it from a copy, or move it "
            "away to start with an empty broker"
        )

    def silent(self, waited_s: float) -> Retriable:
        """The error for a broker that runs and doesn't answer."""
        return Retriable(
            f"the broker on port {self.port} did not answer within {waited_s:.0f} s; see {self.log_file} "
            "and whether the machine is out of memory or disk"
        )

    def complaints(self) -> list[str]:
        """The last lines of the present run: the JVM's own output, then the broker's log."""
        return last_lines(self.output_file, 20) + last_lines(self.log_file, 200, self._log_start_bytes)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: tuple[type[BaseException] | None, BaseException | None, TracebackType | None]) -> None:
        self.stop()

    def _check_formatted(self) -> None:
        meta = self._kafka_dir / "meta.properties"
        remedy = f"restore {self._kafka_dir} from a copy, or move it away to start with an empty broker"
        try:
            text = meta.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Fatal(
                f"the broker's folder is damaged: cannot read {meta} ({type(error).__name__}); {remedy}"
            ) from error
        entries = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        if entries.get("node.id") != str(NODE_ID) or not entries.get("cluster.id") or "version" not in entries:
            raise Fatal(f"the broker's folder is damaged: {meta} lacks node.id, cluster.id or version; {remedy}")

    def _format(self, controller_port: int) -> None:
        """In a folder beside, then renamed: a format that is cut short leaves nothing that looks formatted."""
        fresh = self._folder / "kafka.new"
        shutil.rmtree(fresh, ignore_errors=True)
        config = self._folder / "format.properties"
        config.write_text(server_properties(fresh, self.port, controller_port, self._properties), "utf-8")
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [
            *self._jvm(server=False),
            "kafka.tools.StorageTool",
            "format",
            "-c",
            str(config),
            f"--cluster-id={cluster_id}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = ((done.stderr + done.stdout).strip().splitlines() or ["nothing"])[-1]
            raise Fatal(
                f"cannot format the broker's folder {fresh}: Kafka says: {said}; is the disk full or read-only?"
            )
        config.unlink()
        fresh.rename(self._kafka_dir)

    def _jvm(self, *, server: bool) -> list[str]:
        assert self._java is not None  # noqa: S101 - set by prepare
        options = tuning_options(self._java, self._heap_mb) if server else ["-XX:TieredStopAtLevel=1"]
        logging = [f"-Dlog4j2.configurationFile={_LOG_CONFIG}", f"-Dstockweave.broker.log={self.log_file}"]
        return [str(self._java.path), *options, *logging, "-cp", class_path(self._jars)]


def kafka_answers(bootstrap_servers: str, timeout_s: float) -> bool:
    """Whether a Kafka is there: a metadata answer that lists a broker (a fenced one is not listed)."""
    config = client_config(bootstrap_servers) | {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 50}
    admin = AdminClient(config, logger=CLIENT_LOGGER)
    try:
        return len(admin.list_topics(timeout=timeout_s).brokers) > 0
    except KafkaException:
        return False


def _held_something(partition: Path) -> bool:
    """Whether a partition's folder is more than one that a kill left in the middle of being created.

    Kafka writes `partition.metadata` before the first record, and makes a partition without it anew.
    """
    named = partition / "partition.metadata"
    return (named.exists() and named.stat().st_size > 0) or any(log.stat().st_size for log in partition.glob("*.log"))


def _last_error(lines: list[str]) -> str:
    """The innermost cause below the last ERROR; Kafka's own line says only that it stops."""
    at = max((i for i, line in enumerate(lines) if re.search(r" (ERROR|FATAL) ", line)), default=None)
    if at is None:
        return lines[-1] if lines else "none"
    causes = [line for line in lines[at + 1 :] if re.match(r"(Caused by: |[a-z]+(\.\w+)+(Exception|Error)\b)", line)]
    return causes[-1].removeprefix("Caused by: ") if causes else lines[at]


def _port_message(port: int) -> str:
    return (
        f"port {port} on 127.0.0.1 is in use, and the embedded broker needs it: stop what listens there, "
        "or choose another with --broker-port (STOCKWEAVE_BROKER_PORT)"
    )
