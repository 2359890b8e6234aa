"""Continuous batching on torch: any Hugging Face causal language model.

`sequence` is one prompt and its answer so far, `scheduler` decides who runs, `runner` runs the model over a shared KV
cache, `sampler` picks tokens, `text` turns them into characters, `prompt` turns a chat into tokens, `loader` reads the
model's folder, and `engine` puts them together. Importing this package imports no torch.
"""
