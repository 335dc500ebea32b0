"""One pipeline of a tier-1 node: from message to sample in hand, from answer to topics."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np

from shared.cascade.backlog import Backlog
from shared.cascade.breaker import State
from shared.errors import PayloadError
from shared.messages import PackPrediction, SampleError
from shared.metrics import NodeMetrics
from shared.mqtt.message import Message
from shared.topics import SampleTopic, Topics
from tier1.answers import Answer
from tier1.config import Tier1PipelineConfig
from tier1.deliveries import Taken, made_id
from tier1.formats import open_format
from tier1.pipeline import Tier1Pipeline
from tier1.questions import Question
from tier1.routes import Action, Routes
from tier1.watch_file import WatchFile

MAX_KNOWN_SENSORS = 10_000

log = logging.getLogger(__name__)


class Lane:
    """A pipeline with its formats and topics.

    Args:
        pipeline: the data path.
        config: its configuration.
        topics: of this node's site.
        metrics: what is counted.
        sample_topic: where its sensors publish.
        backlog: where what could not be asked waits.
        watch_file: keeps what was found of the model.
        receiver: this process, to which the broker delivers.
    """

    def __init__(
        self,
        pipeline: Tier1Pipeline,
        config: Tier1PipelineConfig,
        topics: Topics,
        metrics: NodeMetrics,
        *,
        sample_topic: SampleTopic,
        backlog: Backlog,
        watch_file: WatchFile,
        receiver: str,
    ) -> None:
        self.pipeline = pipeline
        self.backlog = backlog
        self.watch_file = watch_file
        self.config = config
        self.qos = 1 if config.delivery == "at_least_once" else 0
        self.sample_topic = sample_topic
        self._topics = topics
        self._receiver = receiver
        self._sensors = None if config.sensors is None else frozenset(config.sensors)
        self._format = open_format(config.format, config.layout, config.max_payload_bytes)
        self._packs = config.format.pack is not None
        self._routes = Routes(pipeline.name, config.routes, metrics.drops)
        self._prediction_topics: dict[str, str] = {}
        self._said_open = False

    @property
    def filters(self) -> list[str]:
        """What the node subscribes to."""
        return [self.sample_topic.filter(sensor) for sensor in self.config.sensors or ("+",)]

    def take(self, message: Message, sensor: str, now_s: float) -> Taken:
        """Decodes a message of this pipeline's sensors.

        Raises:
            PayloadError: it is not what the format expects.
        """
        decoded = self._format.decode(message.payload)
        return Taken(
            message,
            sensor,
            now_s,
            decoded.rows,
            decoded.id or made_id(message, self._receiver),
            time.time() if decoded.timestamp is None else decoded.timestamp,
            len(decoded.rows) if self._packs else 1,
            self._packs,
            decoded.ids,
        )

    def keep(self, questions: Sequence[Question]) -> None:
        """Keeps questions of one batch that cannot be asked now, as training material for later."""
        if self.backlog.full:
            # Nothing is put together while tier-2 is away and the disk has its share.
            self.backlog.refuse(len(questions))
            return
        self.backlog.keep(
            self.pipeline.samples(questions),
            np.stack([question.features for question in questions]),
            np.stack([question.own.probabilities for question in questions]),
            questions[0].spec.version,
        )

    def say_whether_tier2_answers(self) -> None:
        """Says once that tier-2 is left alone, and once that it answers again."""
        is_open = self.pipeline.breaker is not State.CLOSED
        if is_open is self._said_open:
            return
        self._said_open = is_open
        if is_open:
            log.warning(
                "%s: tier-2 does not answer in time and is left alone; tier-1 decides by itself "
                "(reason: breaker_open) and tries one sample now and then",
                self.pipeline.name,
            )
        else:
            log.info("%s: tier-2 answers again", self.pipeline.name)

    def answers(self, sensor: str) -> bool:
        """Whether a sensor is one of this pipeline's.

        A persistent session still holds what an earlier configuration subscribed to.
        """
        return self._sensors is None or sensor in self._sensors

    def prediction_topic(self, sensor: str) -> str:
        """Returns where a sensor's predictions go."""
        known = self._prediction_topics
        if sensor not in known:
            if len(known) >= MAX_KNOWN_SENSORS:
                known.clear()
            known[sensor] = self._topics.predictions(self.pipeline.name, sensor)
        return known[sensor]

    def actions(self, answer: Answer) -> Sequence[Action]:
        """Returns what an answer sets off on the spot."""
        if isinstance(answer.prediction, PackPrediction):
            return self._routes.pack_actions(answer.prediction)
        return self._routes.actions(answer.prediction)

    def refusal(self, payload: bytes, sensor: str, error: PayloadError) -> tuple[str, SampleError]:
        """Returns what tells a sender what was wrong, and where it reads it."""
        told = SampleError(
            id=self._format.sender_id(payload),
            device_id=sensor,
            timestamp=time.time(),
            error=str(error),
            expected=error.expected or self._format.expected,
        )
        return self._topics.errors(self.pipeline.name, sensor), told
