"""The model that serves a pipeline: from a file at first, from releases ever after."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from shared.config import ModelConfig, NodeConfig, PipelineConfig
from shared.errors import ArtefactError, StorageError
from shared.link import Link
from shared.metrics import NodeMetrics
from shared.model import Calibration, Model, ModelSpec
from shared.releases.signing import Trust, load_trust
from shared.releases.updater import Updater


def load_local(name: str, config: ModelConfig, input_shape: tuple[int, ...]) -> Model:
    """Loads the model that a configuration names.

    Args:
        name: the pipeline.
        config: the file and what it holds.
        input_shape: of one sample.

    Raises:
        ArtefactError: it does not load or does not fit.
        StorageError: it cannot be read.
    """
    digest = hashlib.sha256(read_file(config.path)).hexdigest()
    calibration = Calibration(config.temperature, config.threshold)
    spec = ModelSpec(name, config.version, digest, config.labels, config.scores, calibration)
    return Model.load(config.path, spec, input_shape)


def read_file(path: Path) -> bytes:
    """Returns a file's bytes.

    Raises:
        StorageError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def read_trust(path: Path) -> Trust:
    """Returns the keys in a trust file.

    Raises:
        ConfigError: it holds none.
        StorageError: it cannot be read.
    """
    return load_trust(read_file(path))


def make_updater(
    pipeline: PipelineConfig, node: NodeConfig, link: Link, metrics: NodeMetrics
) -> Updater | None:
    """Makes the updater of a pipeline, if it follows a channel.

    Raises:
        ConfigError: the trust file holds no key.
        StorageError: the trust file cannot be read.
    """
    if pipeline.releases is None:
        return None
    return Updater(
        config=pipeline.releases,
        pipeline=pipeline,
        node=node.node,
        state_dir=node.state_dir,
        link=link,
        topics=node.topics,
        trust=read_trust(pipeline.releases.trust),
        metrics=metrics,
        rng=random.Random(),  # noqa: S311 - jitter, not a secret
    )


def first_model(name: str, pipeline: PipelineConfig, updater: Updater | None) -> Model | None:
    """Returns what serves at the start: the committed release, else the configured file.

    Raises:
        ArtefactError: there is no release and the file cannot serve.
    """
    committed = updater.start() if updater is not None else None
    if committed is not None or pipeline.model is None:
        return committed
    try:
        return load_local(name, pipeline.model, pipeline.input.shape)
    except StorageError as error:
        raise ArtefactError(str(error)) from error
