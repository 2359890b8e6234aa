"""How good predictions are: metrics over what was asked, expected and predicted, with their uncertainty."""
