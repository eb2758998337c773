"""From what a supplier calls things to updates: declared, not programmed, and the same for every format."""
