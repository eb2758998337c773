"""The embedded broker: Apache Kafka itself, one KRaft node on loopback, brought along by Python packages.

Used by `stockweave up` when no cluster is named, and by the tests.
"""
