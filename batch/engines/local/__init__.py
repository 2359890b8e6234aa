"""Models in a process of their own: what carries items there and answers back, and what a core has to offer."""
