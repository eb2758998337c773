"""Hostile messages through a real Kafka: each is folded, or a dead letter with its bytes, and takes no other along."""

from __future__ import annotations

import random
from collections import Counter

from schemas.rows import OUTCOMES
from tests.deployment import Deployment, drive_events, expected_on_hand, some_updates
from tests.fuzz.avro import message

SEED = 20_261_121
HOSTILE = 400


def test_hostile_messages_among_good_ones_cost_no_good_one_and_lose_no_byte(deployment: Deployment) -> None:
    drawn, good = random.Random(SEED), some_updates(300)
    sent: Counter[tuple[bytes, bytes | None]] = Counter()
    left = iter(good)
    for _ in range(HOSTILE):
        key, value = drawn.choice((b"A-1", b"other", b"\xff")), message(drawn)
        sent[key, value] += 1
        deployment.publish_raw(key, value, flush=False)
        if drawn.randrange(2):
            deployment.publish([update for update in [next(left, None)] if update is not None])
    deployment.publish(list(left))
    engine, identity = deployment.engine("w")
    drive_events(engine, HOSTILE + len(good))
    engine.processor.close()
    identity.release()
    seen = deployment.stock()
    assert {sku: row.on_hand for sku, row in seen.rows.items() if sku.startswith("sku-")} == expected_on_hand(good)
    letters = Counter((letter.key() or b"", letter.value()) for letter in deployment.dead_letters())
    assert letters <= sent, "a dead letter has other bytes than what was sent"
    tallies = [
        sum(column) for column in zip(*(t for p in seen.positions.values() for t in p.outcomes.values()), strict=True)
    ]
    assert sum(tallies) == HOSTILE + len(good)
    assert tallies[OUTCOMES.index("rejected")] == letters.total() > HOSTILE / 2
