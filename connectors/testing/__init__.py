"""Suppliers to test with: real servers in the test's own process, each with faults that a seed repeats."""
