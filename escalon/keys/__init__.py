"""The keys of a fleet: founded, rotated, revoked. Run where the root keys are, offline."""
