"""Two lives of an update: the first is killed, the second goes on."""
