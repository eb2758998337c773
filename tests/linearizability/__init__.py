"""Whether reservations are linearizable: many clients ask at once while things go wrong, and every answer is judged.

`make linearizability`, or `python -m tests.linearizability --faults 20`. `shoppers` ask, in `windows` of some 2,000
calls on one SKU, by `calls`; what they asked and were told is a `history`. `checker/` is a Go program that holds it
against the sequential specification, with Porcupine (`porcupine`); `order` gives it an order to try first. `reads` and
`conservation` check what it cannot. `run` starts the system, with the faults of `tests.system.chaos`, and `report`
tells.
"""
