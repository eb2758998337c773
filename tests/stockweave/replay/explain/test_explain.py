"""As of any time a row is what the tests' own reference makes of the log that Kafka had then."""

from __future__ import annotations

import random
import time

from schemas.topics import UPDATES
from stockweave.replay.explain.explain import Explainer
from tests.deployment import Deployment, expected_on_hand, some_updates


def test_as_of_any_time_a_row_is_the_references_over_the_prefix(deployment: Deployment) -> None:
    updates = some_updates(600, skus=8)
    for i in range(0, 600, 40):
        deployment.publish(updates[i : i + 40])
        time.sleep(0.01)  # so that rounds have stamps of their own
    log = [(m.timestamp()[1], deployment.codec.decode([m.value()])[0]) for m in deployment.read(UPDATES.name)]
    first, last = min(t for t, _ in log), max(t for t, _ in log)
    rng = random.Random(4)
    with Explainer(deployment.base) as explainer:
        for sku in {u["sku"] for u in updates}:
            explainer.explain(sku)
        for _ in range(1_000):
            sku, at = f"sku-{rng.randrange(8)}", rng.randint(first - 5, last + 5)
            want = expected_on_hand(u for t, u in log if t <= at and u["sku"] == sku).get(sku)  # type: ignore[index,misc]
            row = explainer.explain(sku, at).row
            assert (None if row is None else row.on_hand) == want, (sku, at)
