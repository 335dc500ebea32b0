"""A whole hierarchy on one machine, on real input: what ``escalon demo`` shows."""
