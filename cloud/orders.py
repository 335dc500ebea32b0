"""What a pipeline's configuration has trained, as orders for the training."""

from __future__ import annotations

import msgspec

from cloud.certificate.promise import Promise
from cloud.config import CloudPipelineConfig
from cloud.training.config import TrainingConfig
from cloud.training.order import Order
from cloud.training.telemetry import NAME as TELEMETRY
from cloud.version import Version
from shared.releases.blobs import BlobStore


def first_order(name: str, config: CloudPipelineConfig, training: TrainingConfig) -> Order:
    """Returns the order of a pipeline's first models, from the base set alone.

    Args:
        name: the pipeline.
        config: its configuration.
        training: the section ``training:`` in it.
    """
    certificate = config.certificate
    absolute = training.model_copy(update={"base": training.base.absolute()})
    return Order(
        pipeline=name,
        labels=config.labels,
        input_shape=config.input.shape,
        training=absolute.model_dump(mode="json"),
        promise=Promise(certificate.alpha, certificate.delta, certificate.escalation_budget),
    )


def later_order(first: Order, tier1: Version, tier2: Version, blobs: BlobStore) -> Order:
    """Returns the order of a new tier-1 model, from the telemetry as well.

    Args:
        first: the pipeline's first order.
        tier1: what runs, to compare with.
        tier2: the teacher.
        blobs: the files of both.
    """
    small, full = (version.release.variants[0] for version in (tier1, tier2))
    return msgspec.structs.replace(
        first,
        telemetry=TELEMETRY,
        teacher=str(blobs.path(full.artefact.sha256).absolute()),
        teacher_temperature=full.calibration.temperature,
        running=str(blobs.path(small.artefact.sha256).absolute()),
        running_calibration=small.calibration,
    )
