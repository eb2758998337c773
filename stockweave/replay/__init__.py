"""Rebuilding state from its topics: what `stockweave verify`, `rebuild`, `checkpoint` and `explain` do."""
