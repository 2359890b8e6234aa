"""Which model answers an item, why, and what to try next; learned from scored jobs, never from guesses.

`categories` and `language` read a prompt, `rules` are the `routes:` of models.yaml, `evidence` is what scored jobs have
shown, `predictor` what it says of a prompt, `assign` the best use of a budget, `planning` all of it for a whole file.
"""

AUTO = "auto"  # in place of a model's id: each item has one of its own
