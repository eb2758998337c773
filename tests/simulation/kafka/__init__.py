"""Kafka in memory, as far as the worker and the view can tell it from a real one.

What holds here is what `tests/simulation/contract` asks of both: this one and the real broker.
"""
