"""Defects planted on purpose, one a patch, and whether anything sees them: the check of the checks."""
