"""Programs of the Python peers, run by path in processes of their own; they import nothing of ours."""
