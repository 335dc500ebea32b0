"""Tier 1: answers on the spot what its small model is sure of, and escalates the rest."""
