"""Models through mlx-lm: on Apple silicon, and on the CPU elsewhere."""
