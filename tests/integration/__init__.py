"""Integration tests: real broker processes, real node processes."""
