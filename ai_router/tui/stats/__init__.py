"""All jobs together."""
