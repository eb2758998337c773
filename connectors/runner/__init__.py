"""Runs feeds: whose turn it is, what is read through to Kafka, how far each has come, and what becomes of failures."""
