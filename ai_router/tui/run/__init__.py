"""A run on the screen, while it goes on."""
