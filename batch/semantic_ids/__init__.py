"""Semantic IDs: RQ-VAE models that turn item features into short codes."""
