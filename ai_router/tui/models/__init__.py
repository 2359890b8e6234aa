"""The models there are."""
