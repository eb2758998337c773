"""A topic of the supplier's own Kafka."""
