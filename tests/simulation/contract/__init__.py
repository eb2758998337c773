"""What the product relies on in Kafka, asked of the simulated one and of the real broker in the same words."""
