"""The front door: the command line and the local simulation of a whole hierarchy."""
