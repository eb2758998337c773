"""Suppliers that answer queries of GraphQL."""
