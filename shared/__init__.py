"""What every role shares: messages, topics, the link to a broker, models and releases."""

__version__ = "0.1.0"
