"""What a supplier's YAML file may say, checked before anything runs; every fault named with its line."""
