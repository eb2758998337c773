from stockweave.broker.kafka import EmbeddedKafka


def test_the_session_broker_answers(broker: EmbeddedKafka) -> None:
    assert broker.answers(timeout_s=5)
