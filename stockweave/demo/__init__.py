"""The retail demo: real sales of 457 stores as suppliers' updates, sent over HTTP and checked to the unit.

`events` makes the stream, `windows` cuts it into requests, `feed` sends them, `check` computes every answer on its own
and compares; `command` is `stockweave demo retail`. Benchmarks and the chaos runner use the parts directly. Nothing
here knows the service's code: it talks to it as any supplier and any shop would.
"""
