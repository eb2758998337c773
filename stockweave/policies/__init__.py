"""`stockweave policies`: what a shop decides about its numbers, looked at, changed, and tried before."""
