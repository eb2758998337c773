"""The worker and the API's view in a world of one thread and one seed: Kafka in memory, and a disk that forgets."""
