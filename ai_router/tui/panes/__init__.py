"""Panes of a screen side by side: as many as there is room for, with edges that move."""
