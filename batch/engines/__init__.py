"""Engines: whatever answers items. Each is imported only when it is used."""
