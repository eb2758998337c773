"""Stockweave: suppliers' stock feeds in, one number per SKU out, exactly once.

This package holds the command and what all parts share: settings, errors, logs, metrics, the embedded broker. Folders
beside it are the architecture; ARCHITECTURE.md walks one update through them.
"""
