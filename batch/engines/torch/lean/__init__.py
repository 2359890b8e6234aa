"""Llama's family of models in a few modules of our own, so that a usual model needs no class of transformers.

Importing transformers' model classes takes longer than loading a small model does. What is known here wholly (`config`)
is loaded without them (`weights`); everything else, and whatever goes wrong, is left to transformers, which is also
what the tests hold this against. Each of `weights`' functions returns None where it is not for them.
"""
