"""The HTTP side for readers: a view of inventory.stock in local stores, and the routes that answer from it.

Nothing is written here and no row is owned: every API process follows the whole topic, and any number of them may run.
"""
