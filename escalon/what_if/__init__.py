"""What another threshold would have done with recorded traffic, from the command line."""
