"""When to train again, and whether what a release promised still holds."""
