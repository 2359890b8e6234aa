"""Semantic IDs: made and looked at."""
