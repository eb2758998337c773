"""Rows on disk: the store of one partition, and the follower that fills it from a compacted topic.

Everything here is a cache of Kafka: any folder may be deleted at any time and is read again from its topic.
"""
