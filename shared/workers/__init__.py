"""Several processes of one node, that share its samples and are one node to the fleet."""
