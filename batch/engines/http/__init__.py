"""Servers that speak HTTP: any OpenAI-compatible one, Anthropic's messages, Ollama's own chat."""
