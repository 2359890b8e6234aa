"""Answers against known ones: scores, rows, two runs compared."""
