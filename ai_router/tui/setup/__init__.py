"""The steps from prompts to a running job."""
