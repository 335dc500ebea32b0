"""What a node has said of its updates on a channel: the last report, retained by the broker."""

from __future__ import annotations

from shared.messages import UpdateReport, to_json
from shared.mqtt.link import Link


class Reports:
    """Publishes reports. The last one, if the link did not take it, as soon as there is one again.

    Args:
        link: the broker.
        topic: of this node's reports on the channel.
    """

    def __init__(self, link: Link, topic: str) -> None:
        self._link = link
        self._topic = topic
        self._unsaid: UpdateReport | None = None

    def publish(self, report: UpdateReport) -> None:
        """Publishes a report in the place of the one before."""
        taken = self._link.publish(self._topic, to_json(report), retain=True)
        self._unsaid = None if taken else report

    def poll(self) -> None:
        """Publishes what the link did not take."""
        if self._unsaid is not None and self._link.connected:
            self.publish(self._unsaid)
