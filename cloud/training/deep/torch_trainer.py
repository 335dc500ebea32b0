"""Trains perceptrons and convolutional networks with PyTorch; distils and prunes them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cloud.training.augmentation import Inputs, with_copies
from cloud.training.config import DeferralConfig, DistillationConfig, PruningConfig
from cloud.training.contract import Job, Samples
from cloud.training.deep.fitting import Fitting, Loss
from cloud.training.deep.losses import cross_entropy, deferral, distillation
from cloud.training.deep.rows import Rows
from cloud.training.fitted import Fitted
from cloud.training.network import Network, initial, planes_of
from cloud.training.progress import Say
from cloud.training.pruning import Mask, weight_masks, without_filters
from shared.errors import ConfigError


def train(job: Job, samples: Samples, tuning: Samples, say: Say) -> Fitted:
    """Trains the model of a job; then prunes it and trains on; then makes it defer.

    Args:
        job: what to train.
        samples: to learn from.
        tuning: tells when to stop.
        say: is told how far it is.

    Raises:
        ArtefactError: the loss is no number any more.
        ConfigError: such samples do not fit the architecture.
    """
    # In one thread and by fixed algorithms: the same seed gives the same bytes.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model, rng = job.model, np.random.default_rng(job.seed)
    if samples.teacher is None:
        kind = Inputs(job.input_maximum, job.image_shape)
        samples = with_copies(samples, model.augmented_copies, kind, rng)
    rows, judged = (Rows.of(each, job.teacher_temperature) for each in (samples, tuning))
    fitting, loss = Fitting(model, rows, judged, rng, say), _answers(model.distillation)
    best = fitting.run(_first(job, rng), loss, model.epochs)
    masks: tuple[Mask, ...] = ()
    notes = []
    if model.pruning is not None:
        before = best.found.weights
        pruned, masks = _pruned(best.found, model.pruning)
        best = fitting.run(pruned, loss, model.pruning.epochs, masks)
        notes.append(f"{model.pruning.kind} pruning: {before} → {best.found.weights} weights")
    if model.deferral is not None:
        best = fitting.run(best.found, _deferring(model.deferral), model.deferral.epochs, masks)
        notes.append(f"deferral-aware, alpha {model.deferral.alpha:g}")
    return Fitted(best.found, fitting.epochs, best.loss, "; ".join(notes))


def _first(job: Job, rng: np.random.Generator) -> Network:
    model = job.model
    planes = planes_of(model.architecture, job.input_shape, job.image_shape)
    if planes is None:
        shape = list(job.input_shape)
        raise ConfigError(f"{model.architecture} does not take samples of shape {shape}")
    return initial(
        model.architecture,
        job.input_shape,
        planes,
        1 / job.input_maximum,
        channels=model.channels,
        kernel=model.kernel,
        hidden=model.hidden,
        labels=len(job.labels),
        rng=rng,
    )


def _answers(config: DistillationConfig | None) -> Loss:
    def loss(logits: Tensor, rows: Rows) -> Tensor:
        if rows.teacher is None or config is None:
            return cross_entropy(logits, rows.targets)
        return distillation(logits, rows.teacher, rows.targets, config.temperature, config.alpha)

    return loss


def _deferring(config: DeferralConfig) -> Loss:
    return lambda logits, rows: deferral(logits, rows.targets, config.alpha)


def _pruned(network: Network, config: PruningConfig) -> tuple[Network, tuple[Mask, ...]]:
    """Returns the pruned network, and which of its weights stay."""
    if config.kind == "structured":
        return without_filters(network, config.share), ()
    return network, weight_masks(network, config.share)
