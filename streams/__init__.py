"""From updates to rows, exactly once: the Faust app, the pump that feeds it, one Kafka transaction a batch.

`app` is the shell; `pump` the loop; `processor` the partitions of this worker; `transaction` the calls to Kafka and
their errors; `batch` the decoding and the fold; `restore` how a partition comes to be served.
"""
