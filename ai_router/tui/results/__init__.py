"""What came out: rows, reading one, files."""
