"""Asking suppliers over HTTP: what the kinds that do so have in common."""
