"""Measurements, each a command that prints its figures beside a limit taken in the same run; none is a test."""
