"""What a worker makes sure of before it joins its group."""

from __future__ import annotations

import pytest

from schemas.topics import DEAD_LETTERS, STOCK, Topic
from stockweave.errors import Fatal
from streams.assembly import connect
from streams.identity import Identity
from tests.altered import alter
from tests.deployment import Deployment


@pytest.mark.parametrize("topic", [STOCK, DEAD_LETTERS], ids=lambda topic: topic.name)
def test_a_worker_does_not_begin_on_a_topic_that_would_not_take_its_transactions(
    deployment: Deployment, topic: Topic
) -> None:
    settings = deployment.settings("worker")
    alter(deployment.bootstrap_servers, settings.topic(topic.name), "max.message.bytes", "1048588")
    identity = Identity(deployment.folder / "worker")
    with identity, pytest.raises(Fatal, match=r"max\.message\.bytes=1048588 and needs 33554432"):
        connect(settings, identity)
