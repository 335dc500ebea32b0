"""Trains a perceptron with scikit-learn and keeps what inference needs: weights and biases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier, MLPRegressor

from cloud.training.augmentation import Inputs, with_copies
from cloud.training.best import Best
from cloud.training.contract import Job, Samples
from cloud.training.fitted import Fitted
from cloud.training.network import Dense, Network
from cloud.training.progress import Say
from shared.scores import Floats

FULL_PENALTY, SMALL_PENALTY = 1e-2, 0.3
"""L2, of tier-2's model and of tier-1's, which has less to learn from and more to smooth."""

Layers = tuple[Dense, ...]


def train(job: Job, samples: Samples, tuning: Samples, say: Say) -> Fitted:
    """Trains the model of a job: on tier-2's answers where there are some, else on labels.

    Args:
        job: what to train.
        samples: to learn from.
        tuning: tells when to stop.
        say: is told how far it is.

    Raises:
        ArtefactError: the loss is no number any more.
    """
    return (
        _learn(job, samples, tuning, say)
        if samples.teacher is None
        else _mimic(job, samples, tuning, say)
    )


def _learn(job: Job, samples: Samples, tuning: Samples, say: Say) -> Fitted:
    """Learns labels, of augmented copies of the samples as well."""
    kind, model = Inputs(job.input_maximum, job.image_shape), job.model
    taught = with_copies(samples, model.augmented_copies, kind, np.random.default_rng(job.seed))
    classes = np.arange(len(job.labels))
    network = MLPClassifier(**_settings(job, FULL_PENALTY, len(taught.labels)))

    def tuning_loss(inputs: Floats) -> float:
        return float(log_loss(tuning.labels, network.predict_proba(inputs), labels=classes))

    best = _fit(network, job, (taught, taught.labels), (tuning, tuning_loss), say, classes=classes)
    return _fitted(job, best, 1.0)


def _mimic(job: Job, samples: Samples, tuning: Samples, say: Say) -> Fitted:
    """Learns tier-2's logits, by least squares.

    Mimic learning: Ba and Caruana, Do Deep Nets Really Need to be Deep?, NeurIPS 2014, section
    2.2. The logits of each sample are centred, which a softmax does not see, and standardized.
    """
    targets = _centred(samples.logits(job.teacher_temperature))
    spread = np.float32(targets.std())
    wanted = _centred(tuning.logits(job.teacher_temperature)) / spread
    network = MLPRegressor(**_settings(job, SMALL_PENALTY, len(samples.labels)))

    def tuning_loss(inputs: Floats) -> float:
        return float(np.square(network.predict(inputs) - wanted).mean())

    best = _fit(network, job, (samples, targets / spread), (tuning, tuning_loss), say)
    return _fitted(job, best, spread)


def _fit(
    network: MLPClassifier | MLPRegressor,
    job: Job,
    taught: tuple[Samples, NDArray[Any]],
    judged: tuple[Samples, Callable[[Floats], float]],
    say: Say,
    **classes: NDArray[Any],
) -> Best[Layers]:
    """Goes over the samples until the loss on the tuning samples gets no smaller."""
    (samples, targets), (tuning, tuning_loss) = taught, judged
    best: Best[Layers] = Best(job.model.patience)
    inputs, scale = _rows(samples.inputs), np.float32(1 / job.input_maximum)
    weights = None if (samples.weights == samples.weights[0]).all() else samples.weights
    for epoch in range(1, job.model.epochs + 1):
        network.partial_fit(inputs * scale, targets, sample_weight=weights, **classes)
        has_tuning = len(tuning.labels) > 0
        loss = tuning_loss(_rows(tuning.inputs) * scale) if has_tuning else float(network.loss_)
        goes_on = best.add(epoch, loss, _layers(network))
        say(epoch, job.model.epochs, loss)
        if not goes_on:
            break
    return best


def _settings(job: Job, penalty: float, samples: int) -> dict[str, Any]:
    model = job.model
    return {
        "hidden_layer_sizes": model.hidden,
        "alpha": penalty,
        "batch_size": min(model.batch_size, samples),
        "learning_rate_init": model.learning_rate,
        # One source for all passes: a number would order the samples alike in each.
        "random_state": np.random.RandomState(job.seed),
    }


def _layers(network: MLPClassifier | MLPRegressor) -> Layers:
    pairs = zip(network.coefs_, network.intercepts_, strict=True)
    return tuple(Dense(*(each.astype(np.float32) for each in pair)) for pair in pairs)


def _fitted(job: Job, best: Best[Layers], spread: np.float32 | float) -> Fitted:
    *hidden, last = best.found
    weight, bias = last.weight * np.float32(spread), last.bias * np.float32(spread)
    if weight.shape[1] == 1:  # of two labels scikit-learn gives the second one's logit alone
        weight, bias = np.pad(weight, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    dense = (*hidden, Dense(weight, bias))
    network = Network(job.input_shape, (), 1 / job.input_maximum, (), dense)
    return Fitted(network, best.epoch, best.loss)


def _centred(logits: Floats) -> Floats:
    return np.asarray(logits - logits.mean(axis=1, keepdims=True), np.float32)


def _rows(inputs: Floats) -> Floats:
    return inputs.reshape(len(inputs), -1)
