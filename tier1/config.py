"""Configuration of a tier-1 node."""

from __future__ import annotations

from itertools import combinations
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shared.cascade.config import EscalationConfig
from shared.config import PACKET_OVERHEAD_BYTES, BrokerConfig, Name, PipelineConfig
from shared.topics import SENSOR_LEVEL, SampleTopic
from shared.workers.config import TierConfig
from shared.workers.worker import Worker
from tier1.answer_size import AnswerSize
from tier1.drift_config import DriftConfig
from tier1.formats import FormatConfigError, open_format
from tier1.formats.config import FormatConfig, JsonConfig
from tier1.routes_config import RouteConfig, check_routes


class Tier1PipelineConfig(PipelineConfig):
    """One classification task on a tier-1 node."""

    topic: str | None = None
    """Where the sensors publish, with ``{sensor}`` for the level that names the sensor and ``+``
    for any other; left out, ``{prefix}/{site}/{pipeline}/samples/{sensor}``."""
    sensors: tuple[Name, ...] | None = None
    """The sensors that this node answers; left out, every sensor of the site."""
    format: FormatConfig = JsonConfig()
    """How a message holds a sample."""
    delivery: Literal["at_least_once", "at_most_once"] = "at_least_once"
    """Whether a sample is acknowledged only after its prediction was, or lost in a crash."""
    escalation: EscalationConfig = EscalationConfig()
    """How tier-2 is asked."""
    drift: DriftConfig = DriftConfig()
    """When the answers of a model have drifted."""
    probabilities: bool = False
    """Whether predictions carry the probability of every label."""
    routes: tuple[RouteConfig, ...] = ()
    """What a prediction sets off on the spot."""
    max_payload_bytes: int = Field(default=256 * 2**10, ge=1, le=256 * 2**20)
    """A larger sample is refused unread."""

    @property
    def samples_a_message(self) -> int:
        """How many samples a message may hold."""
        return 1 if self.format.pack is None else self.format.pack.max_samples

    @property
    def most_samples_sent(self) -> int:
        """How many samples a message within its limits can hold, at a byte a number at least."""
        return max(1, min(self.samples_a_message, self.max_payload_bytes // self.layout.size))

    @property
    def answer_size(self) -> AnswerSize:
        """How large answers may get, as far as that is known before the model is loaded."""
        labels = self.model.labels if self.model is not None else None
        version = self.model.version if self.model is not None else ""
        of = AnswerSize.of_single if self.format.pack is None else AnswerSize.of_pack
        return of(labels or ("?",), version, shows_probabilities=self.probabilities)

    @field_validator("topic")
    @classmethod
    def _sample_topic(cls, topic: str | None) -> str | None:
        problem = None if topic is None else SampleTopic(topic).problem()
        if problem is not None:
            raise PydanticCustomError(
                "sample_topic",
                "{problem}",
                {"problem": problem, "fix": "write for example plant/line-1/{sensor}/vibration"},
            )
        return topic

    @model_validator(mode="after")
    def _format_fits_the_inputs(self) -> Self:
        try:
            open_format(self.format, self.layout, self.max_payload_bytes)
        except FormatConfigError as error:
            raise PydanticCustomError(
                "format", "format: {problem}", {"problem": error.problem, "fix": error.fix}
            ) from error
        return self

    @model_validator(mode="after")
    def _blocks_what_is_acknowledged(self) -> Self:
        if self.batching.overflow == "block" and self.delivery == "at_most_once":
            raise PydanticCustomError(
                "block_without_ack",
                "overflow: block leaves samples to the broker, which keeps none at_most_once",
                {"fix": "write delivery: at_least_once, or overflow: reject or drop_oldest"},
            )
        return self

    @model_validator(mode="after")
    def _queue_holds_a_message(self) -> Self:
        if self.samples_a_message > self.batching.queue_size:
            raise PydanticCustomError(
                "pack_beyond_queue",
                "packs of {samples} samples do not fit a queue of {size}",
                {
                    "samples": self.samples_a_message,
                    "size": self.batching.queue_size,
                    "fix": "raise batching.queue_size, or lower format.pack.max_samples",
                },
            )
        return self

    @model_validator(mode="after")
    def _routes_can_be_taken(self) -> Self:
        labels = None if self.model is None else self.model.labels
        check_routes(self.routes, labels=labels, sensors=self.sensors)
        return self


class Tier1Config(TierConfig):
    """A tier-1 node: answers its sensors, asks tier-2 where it is not sure."""

    role: Literal["tier1"]
    """What this node is."""
    broker: BrokerConfig
    """The site's broker."""
    pipelines: dict[Name, Tier1PipelineConfig] = Field(min_length=1)
    """What this node answers, by the pipeline's name."""

    @property
    def receive_maximum(self) -> int | None:
        """How many messages a broker may have under way to this node; None for any number.

        So many that none finds the queue full which would leave it to the broker: an unacknowledged
        one is all that it may be (MQTT 5, section 3.1.2.11.3).
        """
        blocking = [each for each in self.pipelines.values() if each.batching.overflow == "block"]
        rooms = (each.batching.queue_size // each.samples_a_message for each in blocking)
        return min((max(1, room) for room in rooms), default=None)

    def sample_topic(self, name: str) -> SampleTopic:
        """Returns where the sensors of a pipeline publish."""
        return SampleTopic(self.pipelines[name].topic or self.topics.samples(name, SENSOR_LEVEL))

    @model_validator(mode="after")
    def _each_sample_has_one_pipeline(self) -> Self:
        for one, two in combinations(self.pipelines, 2):
            if not self.sample_topic(one).overlaps(self.sample_topic(two)):
                continue
            sensors = [self.pipelines[name].sensors for name in (one, two)]
            if None in sensors or set(sensors[0] or ()) & set(sensors[1] or ()):
                raise PydanticCustomError(
                    "two_pipelines_on_a_topic",
                    "pipelines {one} and {two} would both answer samples on {topic}",
                    {
                        "one": one,
                        "two": two,
                        "topic": self.sample_topic(one).template,
                        "fix": "give each a `topic:` of its own, or `sensors:` that differ",
                    },
                )
        return self

    @model_validator(mode="after")
    def _no_route_feeds_the_node(self) -> Self:
        """What a route sends as a sample would be answered, and set the route off again."""
        for name, pipeline in self.pipelines.items():
            for number, route in enumerate(pipeline.routes):
                levels = ("+" if "$" in level else level for level in route.topic.split("/"))
                target = SampleTopic("/".join(levels))
                if any(self.sample_topic(each).overlaps(target) for each in self.pipelines):
                    raise PydanticCustomError(
                        "route_to_samples",
                        "pipelines.{name}.routes.{number}.topic: {topic} is where samples come in",
                        {
                            "name": name,
                            "number": number,
                            "topic": route.topic,
                            "fix": "send it to a topic on which this node reads no samples",
                        },
                    )
        return self

    @model_validator(mode="after")
    def _packets_hold_the_samples(self) -> Self:
        largest = self.broker.max_packet_bytes
        for name, pipeline in self.pipelines.items():
            wanted = pipeline.max_payload_bytes
            enough = wanted + PACKET_OVERHEAD_BYTES
            if wanted > largest and "max_payload_bytes" in pipeline.model_fields_set:
                raise PydanticCustomError(
                    "payload_beyond_packet",
                    "pipelines.{name}.max_payload_bytes: no sample of {wanted} bytes comes in "
                    "packets of at most {largest}",
                    {
                        "name": name,
                        "wanted": wanted,
                        "largest": largest,
                        "fix": f"set broker.max_packet_bytes to at least {enough}",
                    },
                )
        return self

    @model_validator(mode="after")
    def _packets_hold_the_answers(self) -> Self:
        largest = self.broker.max_message_bytes
        for name, pipeline in self.pipelines.items():
            size, samples = pipeline.answer_size, pipeline.most_samples_sent
            wanted = size.bytes_of(samples)
            if wanted > largest:
                fit = size.samples_in(largest)
                less = f"lower format.pack.max_samples to {fit}" if fit else "show no probabilities"
                enough = wanted + PACKET_OVERHEAD_BYTES
                raise PydanticCustomError(
                    "answer_beyond_packet",
                    "pipelines.{name}: answers of up to {samples} samples and {wanted} bytes "
                    "do not go into packets of at most {largest}",
                    {
                        "name": name,
                        "samples": samples,
                        "wanted": wanted,
                        "largest": self.broker.max_packet_bytes,
                        "fix": f"{less}, or set broker.max_packet_bytes to at least {enough}",
                    },
                )
        return self

    def part(self, worker: Worker) -> Self:
        """Returns what one of the node's workers goes by: its part of what the node may use."""
        largest = self.broker.max_message_bytes
        pipelines = {
            name: pipeline.model_copy(
                update={"escalation": pipeline.escalation.part(worker.count, largest)}
            )
            for name, pipeline in self.pipelines.items()
        }
        return self.model_copy(update={"pipelines": pipelines, "metrics": self.metrics_of(worker)})
