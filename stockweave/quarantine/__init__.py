"""Snapshots that wait for a person: looked at, released, dropped."""
