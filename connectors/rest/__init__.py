"""Feeds that are asked for over HTTP."""
