"""Releases: signed, fetched in chunks, proven on the node, swapped, watched, rolled back."""
