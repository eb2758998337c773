"""Updates to rows the way Faust's tutorial writes it: an agent and a table. Settings: PEER_* variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faust
from faust.serializers import codecs
from rule import Decoder, apply  # type: ignore[import-not-found,unused-ignore]


class Avro(codecs.Codec):
    """A framed update."""

    decode = Decoder(Path(os.environ["PEER_SCHEMA"]))

    def _loads(self, value: bytes) -> Any:  # noqa: ANN401
        return Avro.decode(value)


codecs.register("avro", Avro())
partitions = int(os.environ["PEER_PARTITIONS"])
app = faust.App(
    os.environ["PEER_GROUP"],
    broker="kafka://" + os.environ["PEER_BOOTSTRAP_SERVERS"],
    store="rocksdb://?driver=rocksdict",
    datadir=os.environ["PEER_STATE_DIR"],
    topic_partitions=partitions,
    web_enabled=False,
    stream_buffer_maxsize=16_384,
    broker_max_poll_records=5_000,
    producer_linger=0.05,
    producer_compression_type="lz4",
)
updates = app.topic(os.environ["PEER_TOPIC"], key_serializer="raw", value_serializer="avro")
stock = app.Table("stock", default=dict, partitions=partitions)


@app.agent(updates)
async def fold(stream: Any) -> None:  # noqa: ANN401 - faust's streams are untyped
    """Into the row of the SKU."""
    async for update in stream:
        row = stock[update["sku"]]
        if apply(row, update):
            stock[update["sku"]] = row


if __name__ == "__main__":
    app.main()
