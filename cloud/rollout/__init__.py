"""Releases go out in waves, and are stopped where they do harm. Pure but for the record's file."""
