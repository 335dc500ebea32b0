"""One sample's story, from the command line."""
