"""Avro: files of records with their schema, and messages of one record each."""
