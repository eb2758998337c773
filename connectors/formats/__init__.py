"""From the bytes of a body or a file to rows: what a mapping looks for in each, and each row's original bytes."""
