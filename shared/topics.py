"""Every topic string, built and parsed here and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

MAX_NAME = 64
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}")
"""What one level of a topic may hold. No wildcard and no ``$`` can enter by a name: both have
bypassed pattern ACLs in brokers."""

CLOUD_SITE = "cloud"
"""The site name under which the cloud publishes releases for gateways to relay."""


ProbeKind = Literal["shared", "plain", "session"]

SENSOR_LEVEL = "{sensor}"
VERSION = re.compile(r"[1-9][0-9]{0,8}")
TOPIC_LEVEL = re.compile(r"[^+#\x00/]{1,256}")


@dataclass(frozen=True)
class SampleTopic:
    """Where the sensors of one pipeline publish.

    Attributes:
        template: the topic, with ``{sensor}`` in place of the level that names the sensor; ``+``
            stands for any other single level.
    """

    template: str

    def problem(self) -> str | None:
        """Returns what is wrong with the template, or None."""
        levels = self.template.split("/")
        if levels.count(SENSOR_LEVEL) != 1:
            return f"{self.template} does not have exactly one level {SENSOR_LEVEL}"
        if levels[0].startswith("$"):
            return f"{self.template} begins with $, which is the broker's own"
        wrong = [each for each in levels if each != "+" and not TOPIC_LEVEL.fullmatch(each)]
        return f"{wrong[0]!r} is no level of a topic" if wrong else None

    def filter(self, sensor: str = "+") -> str:
        """Returns what to subscribe to, for every sensor or for one."""
        return self.template.replace(SENSOR_LEVEL, sensor)

    def overlaps(self, other: SampleTopic) -> bool:
        """Whether a topic may be one of both templates, whatever its sensor."""
        pairs = list(zip(self.template.split("/"), other.template.split("/"), strict=False))
        same_length = self.template.count("/") == other.template.count("/")
        return same_length and all(
            one == two or {one, two} & {"+", SENSOR_LEVEL} for one, two in pairs
        )

    def sensor(self, topic: str) -> str | None:
        """Returns the sensor that a topic names, or None if it is not one of this template."""
        wanted, given = self.template.split("/"), topic.split("/")
        if len(wanted) != len(given):
            return None
        found = None
        for want, level in zip(wanted, given, strict=True):
            if want == SENSOR_LEVEL:
                found = level if NAME.fullmatch(level) else None
            elif want not in ("+", level):
                return None
        return found


@dataclass(frozen=True)
class Topics:
    """Topics of one site.

    Attributes:
        prefix: first level of every topic.
        site: name of the site; ``cloud`` on the cloud's side.
    """

    prefix: str
    site: str

    def samples(self, pipeline: str, sensor: str = "+") -> str:
        """Where sensors publish samples."""
        return f"{self.prefix}/{self.site}/{pipeline}/samples/{sensor}"

    def predictions(self, pipeline: str, sensor: str = "+") -> str:
        """Where the one final prediction of each sample appears."""
        return f"{self.prefix}/{self.site}/{pipeline}/predictions/{sensor}"

    def errors(self, pipeline: str, sensor: str = "+") -> str:
        """Where a sender reads what was wrong with its sample."""
        return f"{self.prefix}/{self.site}/{pipeline}/errors/{sensor}"

    def labels(self, pipeline: str, sensor: str = "+") -> str:
        """Where people say what a sensor's samples are."""
        return f"{self.prefix}/{self.site}/{pipeline}/labels/{sensor}"

    def escalations(self, pipeline: str, node: str = "+") -> str:
        """Where a tier-1 node asks tier-2."""
        return f"{self.prefix}/{self.site}/{pipeline}/escalations/{node}"

    def replies(self, pipeline: str, node: str = "+") -> str:
        """Where tier-2 answers a tier-1 node."""
        return f"{self.prefix}/{self.site}/{pipeline}/replies/{node}"

    def telemetry(self, node: str = "+") -> str:
        """Where a tier-2 node reports to the cloud."""
        return f"{self.prefix}/{self.site}/telemetry/{node}"

    def telemetry_acks(self, node: str) -> str:
        """Where the cloud says which telemetry it has stored."""
        return f"{self.prefix}/{self.site}/telemetry-acks/{node}"

    def state(self, node: str = "+") -> str:
        """Birth and last will of a node, retained."""
        return f"{self.prefix}/{self.site}/nodes/{node}/state"

    def info(self, node: str = "+") -> str:
        """What a node is and which models it serves, retained."""
        return f"{self.prefix}/{self.site}/nodes/{node}/info"

    def probe(self, node: str, kind: ProbeKind) -> str:
        """Where a node sends to itself, to see what its broker does.

        Args:
            node: the node or worker.
            kind: ``shared`` and ``plain``: whether it delivers shared subscriptions; ``session``:
                when all that it held for the node has come.
        """
        return f"{self.prefix}/{self.site}/nodes/{node}/probe/{kind}"

    def updates(self, node: str = "+", channel: str = "+") -> str:
        """Where a node reports the course of an update, retained."""
        return f"{self.prefix}/{self.site}/nodes/{node}/updates/{channel}"

    def news(self) -> tuple[str, ...]:
        """What to subscribe to for all that nodes say of themselves."""
        return (self.state(), self.info(), self.updates())

    def is_news(self, topic: str) -> bool:
        """Whether a node says something of itself on a topic."""
        levels = topic.split("/")
        if levels[:3] != [self.prefix, self.site, "nodes"] or not all(map(NAME.fullmatch, levels)):
            return False
        kind = levels[4:]
        return kind in (["state"], ["info"]) or (len(kind) == 2 and kind[0] == "updates")

    def releases(self, channel: str = "+") -> str:
        """Signed manifest of a channel's current release, retained."""
        return f"{self.prefix}/{self.site}/releases/{channel}"

    def trust(self, version: int) -> str:
        """One version of the signed trust document, retained."""
        return f"{self.prefix}/{self.site}/trust/{version}"

    def trust_version(self, topic: str) -> int | None:
        """Returns which version of the trust document a topic names, or None."""
        head, _, version = topic.rpartition("/")
        if head != f"{self.prefix}/{self.site}/trust" or not VERSION.fullmatch(version):
            return None
        return int(version)

    def blob(self, sha256: str, index: int | Literal["+"]) -> str:
        """One chunk of an artefact: retained, or sent because a node asked for it.

        Never subscribe to ``+`` where chunks are retained: the broker would send them all, again at
        every subscription.
        """
        return f"{self.prefix}/{self.site}/blobs/{sha256}/{index}"

    def blob_requests(self, node: str = "+") -> str:
        """Where a node asks for chunks that are not retained."""
        return f"{self.prefix}/{self.site}/blob-requests/{node}"

    def blob_asker(self, topic: str) -> str | None:
        """Returns the node that a topic of requests names, or None if it is no such topic."""
        node = topic.removeprefix(self.blob_requests(""))
        return node if topic == self.blob_requests(node) and NAME.fullmatch(node) else None

    def blob_chunk(self, topic: str) -> tuple[str, int] | None:
        """Parses a chunk's topic.

        Returns:
            (SHA-256 in hex, index), or None if the topic is not one of this site's blobs.
        """
        head = f"{self.prefix}/{self.site}/blobs/"
        match = re.fullmatch(r"([0-9a-f]{64})/(\d{1,6})", topic.removeprefix(head))
        if match is None or not topic.startswith(head):
            return None
        return match[1], int(match[2])


def shared_filter(group: str, topic_filter: str) -> str:
    """Returns the filter of a shared subscription: each message goes to one client of the group.

    Args:
        group: the group's name, one level.
        topic_filter: what the group reads.
    """
    return f"$share/{group}/{topic_filter}"


def site_of(topic: str) -> str | None:
    """Returns the site level of a topic, or None where it has none or a bad one."""
    levels = topic.split("/")
    if len(levels) < 3 or not NAME.fullmatch(levels[1]):
        return None
    return levels[1]
