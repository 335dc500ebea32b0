"""Versions and rollouts from the command line, on the cloud's folder."""
