"""Dead letters: looked at, retried, dropped."""
