"""`stockweave rebuild`: replays the facts into a new generation of rows, beside the live one."""
