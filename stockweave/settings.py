"""All settings, read once from the environment (`STOCKWEAVE_*`) and `.env`; commands override them with options.

Called by every process at its start. Units stand last in names: `_ms`, `_s`, `_bytes`, `_max`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One deployment's settings; `.env.example` lists them with their defaults."""

    model_config = SettingsConfigDict(env_prefix="STOCKWEAVE_", env_file=".env", extra="ignore", frozen=True)

    bootstrap_servers: str | None = Field(None, description="Kafka to use; unset, `stockweave up` starts its own.")
    data_dir: Path = Field(Path("data"), description="Where the embedded broker and every local state live.")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,64}$", description="Before every topic and group name.")
    partitions: int = Field(4, ge=1, le=1024, description="Of each topic that is folded; fixed once created.")
    replication_factor: int = Field(1, ge=1, le=9, description="Of each topic; 3 on a cluster.")
    maven_repository: str | None = Field(
        None, description="Where the embedded broker's jars come from; unset, Central."
    )
    checkpoints: str | None = Field(
        None, description="Folder, or any fsspec address, of checkpoints; unset, `checkpoints` in the data folder."
    )
    registry_url: str | None = Field(None, description="A registry with the Confluent API; unset, the packaged ids.")

    api_host: str = Field("127.0.0.1", description="Address that the API listens on.")
    api_port: int = Field(8080, ge=0, le=65535, description="Port that the API listens on; 0: any that is free.")
    connectors_host: str = Field("127.0.0.1", description="Address that connectors take webhooks and uploads on.")
    connectors_port: int = Field(8081, ge=0, le=65535, description="Port of it; processes of one machine may share it.")
    broker_port: int = Field(9092, ge=1, le=65535, description="Of the embedded broker.")
    suppliers: Path | None = Field(
        None, description="Folder of suppliers' files, whose feeds `stockweave up` runs; unset: none."
    )
    workers: int = Field(1, ge=1, le=64, description="Worker processes that `stockweave up` starts.")
    metrics_host: str = Field("127.0.0.1", description="Address that a worker's /metrics listens on.")
    metrics_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Where a worker serves /metrics; unset: not. "
        "Under `stockweave up`, each further worker takes the next.",
    )

    horizon_ms: int = Field(7 * 86_400_000, ge=60_000, description="How late a delta counts; rebuild after a change.")
    entries_max: int = Field(256, ge=1, le=100_000, description="Deltas kept one by one; rebuild after a change.")
    reservation_retention_days: int = Field(
        30, ge=1, le=36_500, description="How long a reservation that is over is kept, and with it its answers."
    )
    batch_events_max: int = Field(16_000, ge=1, le=1_000_000, description="Events folded in one transaction.")
    transaction_timeout_ms: int = Field(
        10_000, ge=1_000, le=900_000, description="How long Kafka keeps a dead worker's transaction open."
    )
    body_bytes_max: int = Field(16 << 20, ge=1_024, description="Largest JSON body of a push; NDJSON has no limit.")
    line_bytes_max: int = Field(64 << 10, ge=256, description="Longest NDJSON line.")
    publish_timeout_ms: int = Field(10_000, ge=500, description="How long a write waits for Kafka before 503.")
    read_wait_ms: int = Field(5_000, ge=0, description="Longest that a read waits for `min_offset`.")
    reserve_wait_ms: int = Field(5_000, ge=500, description="Longest that a reservation waits to be decided.")
    row_cache_bytes: int = Field(128 << 20, ge=0, description="Of rows in memory, about, if it has all partitions.")
    block_cache_bytes: int = Field(64 << 20, ge=1 << 20, description="RocksDB's, for all partitions of a process.")
    write_buffer_bytes: int = Field(64 << 20, ge=1 << 20, description="RocksDB's, for all partitions of a process.")

    def topic(self, name: str) -> str:
        """The deployed name of a catalogue topic."""
        return self.topic_prefix + name

    @property
    def group(self) -> str:
        """The consumer group of the workers."""
        return self.topic_prefix + "stockweave-workers"
