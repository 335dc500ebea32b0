"""``escalon labels``: what people say that samples are, and which ones they are asked about."""
