"""What may be promised of a threshold, and what recorded traffic says of others. Pure."""
