"""The HTTP side of reservations: commands to the writer of a SKU's partition, and its decisions out of the view."""
