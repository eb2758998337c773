"""Alerts of inventory.alerts: the words in their fields `kind` and `state` (schemas/avro/StockAlert.2.avsc)."""

from __future__ import annotations

IN_STOCK, LOW, OUT_OF_STOCK = LEVELS = ("IN_STOCK", "LOW", "OUT_OF_STOCK")
"""States of a SKU."""

OVERSOLD, COVERED = "OVERSOLD", "COVERED"
"""States of a source of it."""

STOCKOUT, BACK_IN_STOCK = "STOCKOUT", "BACK_IN_STOCK"
LOW_STOCK, LOW_STOCK_CLEARED = "LOW_STOCK", "LOW_STOCK_CLEARED"
OVERSOLD_RISK, OVERSOLD_RISK_CLEARED = "OVERSOLD_RISK", "OVERSOLD_RISK_CLEARED"
KINDS = (STOCKOUT, BACK_IN_STOCK, LOW_STOCK, LOW_STOCK_CLEARED, OVERSOLD_RISK, OVERSOLD_RISK_CLEARED)
