"""`stockweave explain`: what a SKU's number is made of, now or at a time."""
