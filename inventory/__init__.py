"""The rules, pure: rows and events in, rows and outcomes out. No clock, no I/O, no framework.

That is what makes a replay provable: the same events give the same rows, whoever folds them and in whatever batches.
"""
