"""vLLM as a core: what GPU clusters run. Importing this package imports no vLLM."""
