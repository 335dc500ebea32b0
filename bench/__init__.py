"""Benchmarks that anyone can run: the usual script, a bare echo and a node, side by side."""
