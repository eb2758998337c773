"""Who takes part in `benchmarks ingest`: each a module that starts one, and the programs that only the peers run."""
