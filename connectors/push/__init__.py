"""Suppliers push updates over HTTP: one at a time, or in batches of any length."""
