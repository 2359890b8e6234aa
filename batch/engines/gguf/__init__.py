"""GGUF files: what their header says, and llama.cpp as an engine that runs them."""
