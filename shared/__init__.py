"""What every role shares: messages, topics, the link to a broker, models and releases."""

import os

__version__ = "0.1.0"

# ONNX Runtime would start a thread, write an id to the home folder and report to its maker. It
# looks for this when it is imported, and every module that imports it imports something of ours.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
