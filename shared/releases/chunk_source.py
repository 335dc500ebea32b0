"""The two ways of getting chunks over MQTT: retained ones, and ones that a server sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from shared.errors import PayloadError
from shared.messages import SCHEMA_VERSION, BlobRequest, pack
from shared.mqtt.link import Link
from shared.releases.artefact import Artefact
from shared.releases.window import WINDOW
from shared.topics import Topics


class ChunkSource(Protocol):
    """Where a fetch asks for chunks; they come with the link's other messages."""

    batch: int
    """Chunks that are worth a question."""

    in_order: bool
    """Whether to ask for the first chunks first."""

    answers_after_reconnect: bool
    """Whether what was asked for before the link was cut still comes."""

    def ask(self, indices: Sequence[int]) -> bool:
        """Asks for chunks; returns whether the question is on its way."""
        ...

    def came(self, index: int) -> None:
        """Takes note of a chunk that has come."""
        ...

    def timed_out(self, indices: Sequence[int]) -> None:
        """Takes note of chunks that have not come in time; they are asked for again."""
        ...

    def begin(self) -> None:
        """Makes ready."""
        ...

    def end(self, asked: Sequence[int]) -> None:
        """Leaves nothing behind; ``asked`` is what has not come."""
        ...


class RetainedChunks:
    """Chunks that the broker keeps: a subscription to the exact topic of each brings it.

    Never a wildcard: every subscription makes the broker send all retained messages that match. At
    QoS 0, so that no chunk waits for its acknowledgement behind the samples; one that is lost is
    asked for again.

    Args:
        artefact: whose chunks.
        link: from where.
        topics: of the site that they are fetched from.
    """

    batch = 1
    in_order = True
    answers_after_reconnect = True  # the link subscribes again

    def __init__(self, artefact: Artefact, link: Link, topics: Topics) -> None:
        self._sha256 = artefact.sha256
        self._link = link
        self._topics = topics

    def begin(self) -> None:
        """Needs nothing."""

    def ask(self, indices: Sequence[int]) -> bool:
        """Subscribes."""
        for index in indices:
            self._link.subscribe(self._topics.blob(self._sha256, index), 0)
        return True

    def came(self, index: int) -> None:
        """Ends its subscription."""
        self._link.unsubscribe(self._topics.blob(self._sha256, index))

    def timed_out(self, indices: Sequence[int]) -> None:
        """Ends their subscriptions."""
        for index in indices:
            self.came(index)

    def end(self, asked: Sequence[int]) -> None:
        """Ends the subscriptions that stand."""
        self.timed_out(asked)


class PulledChunks:
    """Chunks that a server sends when a node asks; all nodes that listen hear the answer.

    Args:
        artefact: whose chunks.
        link: from where.
        topics: of the site that they are fetched from.
        node: who asks.
    """

    batch = WINDOW // 2
    in_order = False  # nodes that ask for different chunks answer each other's questions
    answers_after_reconnect = False

    def __init__(self, artefact: Artefact, link: Link, topics: Topics, node: str) -> None:
        self._sha256 = artefact.sha256
        self._link = link
        self._answers = topics.blob(artefact.sha256, "+")
        self._requests = topics.blob_requests(node)

    def begin(self) -> None:
        """Listens to the answers: nothing is retained there, so nothing floods in."""
        self._link.subscribe(self._answers, 0)

    def ask(self, indices: Sequence[int]) -> bool:
        """Sends one request for all of them."""
        if not self._link.confirmed:
            return False  # the answer could come before the subscription stands
        request = BlobRequest(SCHEMA_VERSION, self._sha256, tuple(indices))
        try:
            return self._link.publish(self._requests, pack(request))
        except PayloadError:
            return False  # the link has said why; the fetch ends at its deadline

    def came(self, index: int) -> None:
        """Does nothing: the subscription is for all of them."""

    def timed_out(self, indices: Sequence[int]) -> None:
        """Listens anew: who has fetched the same file over this link, and is done, has ended it."""
        self.begin()

    def end(self, asked: Sequence[int]) -> None:
        """Listens no more."""
        self._link.unsubscribe(self._answers)
