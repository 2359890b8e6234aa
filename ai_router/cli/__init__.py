"""The command line: one module a verb; data on stdout, narration on stderr."""
