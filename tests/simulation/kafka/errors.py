"""Errors as librdkafka gives them: by code and flags, wrapped as its Python client does."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException


def retriable(code: int, text: str = "simulated") -> KafkaException:
    """The same call may succeed later."""
    return KafkaException(KafkaError(code, text, retriable=True))


def abortable(code: int, text: str = "simulated") -> KafkaException:
    """The transaction has to be undone."""
    return KafkaException(KafkaError(code, text, txn_requires_abort=True))


def fatal(code: int, text: str = "simulated") -> KafkaException:
    """The client is of no use any more."""
    return KafkaException(KafkaError(code, text, fatal=True))


def plain(code: int, text: str = "simulated") -> KafkaException:
    """Without a flag."""
    return KafkaException(KafkaError(code, text))
