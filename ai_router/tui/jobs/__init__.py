"""The jobs of a folder."""
