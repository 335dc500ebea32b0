"""Anyone's model made smaller and faster, from the command line."""
