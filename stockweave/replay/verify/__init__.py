"""`stockweave verify`: folds the facts again and compares, row by row."""
