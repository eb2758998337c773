"""The contracts: Avro schemas, the topic catalogue, the wire codec, the registries, and the rows that workers keep.

Everything that two parts of the system must agree on is here and only here; every other folder may import it.
"""
