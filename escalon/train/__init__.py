"""``escalon train``: trains the first models of a pipeline, here and now."""
