"""Adapters: what their settings and tensors ask for, the same for every engine."""
