"""Feeds that are files: a folder, or a server that has one."""
