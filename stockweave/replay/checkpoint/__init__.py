"""`stockweave checkpoint`: rows and positions in files, with digests; a replay may begin there."""
