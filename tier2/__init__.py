"""Tier 2: answers escalations with the full model; the gateway between a site and the cloud."""
