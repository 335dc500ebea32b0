"""The cascade: who decides a sample, whom a node asks, and what it does without an answer. Pure."""
