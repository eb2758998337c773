"""The outside world to `StockUpdate`: one folder a kind of source, and one publisher that all of them share."""
