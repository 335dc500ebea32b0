"""The cloud: keeps telemetry, notices drift, retrains, certifies, signs and publishes."""
