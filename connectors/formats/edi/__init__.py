"""Inventory messages of EDI: X12's 846 and EDIFACT's INVRPT."""
