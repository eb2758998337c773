"""The headers of a dead letter, whoever writes it: Kafka Connect's names (KIP-298), so that its tools read them."""

from __future__ import annotations

ERRORS = "__connect.errors."
TOPIC, PARTITION, OFFSET = f"{ERRORS}topic", f"{ERRORS}partition", f"{ERRORS}offset"  # of the record, if it was one
STAGE = f"{ERRORS}stage"  # who refused it
REASON = f"{ERRORS}exception.class.name"  # a stable code
DETAIL = f"{ERRORS}exception.message"  # what is wrong, and the remedy
DETAIL_CHARACTERS_MAX = 500
TRUNCATED = "stockweave.truncated"  # how much of the original is left out, where some is
NOTE = "stockweave.note"  # of a record that is no letter
