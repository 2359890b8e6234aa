"""The terminal application: CLI, TUI, registry of models, workspace."""

__version__ = "0.1.0"
