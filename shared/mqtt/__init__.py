"""MQTT: the one place that speaks it, through paho."""
