"""Where a node takes the releases of a channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.mqtt.link import Link
from shared.topics import Topics


@dataclass(frozen=True)
class Place:
    """Where an updater works.

    Attributes:
        node: this node's name.
        pipeline: name of the pipeline that its channel serves.
        state_dir: the node's folder.
        link: the broker that releases come from.
        topics: of this node's site.
        threads: that a model may run; None for all that are worth having.
    """

    node: str
    pipeline: str
    state_dir: Path
    link: Link
    topics: Topics
    threads: int | None = None
