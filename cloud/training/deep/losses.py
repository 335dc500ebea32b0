"""What the torch trainer makes small: one number for each sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Returns -log p(target).

    Args:
        logits: float [N, labels].
        targets: int64 [N].
    """
    return functional.cross_entropy(logits, targets, reduction="none")


def distillation(
    logits: Tensor, teacher: Tensor, targets: Tensor, temperature: float, alpha: float
) -> Tensor:
    """Returns how far a student is from its teacher's softened answers, and from the labels.

    Hinton et al., Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531, section 2:
    a weighted mean of the cross-entropy with the soft targets at a temperature and of the one with
    the labels. The first is multiplied by the square of the temperature, by which its gradients
    have shrunk. Here stands the Kullback-Leibler divergence for it, which has the same gradients
    and is 0 for a student that has learned all.

    Args:
        logits: the student's, float [N, labels].
        teacher: the teacher's, float [N, labels], up to a constant for each sample.
        targets: the labels, int64 [N].
        temperature: divides both logits.
        alpha: weight of the soft targets, 0 to 1.
    """
    soft = functional.kl_div(
        functional.log_softmax(logits / temperature, dim=1),
        functional.log_softmax(teacher / temperature, dim=1),
        reduction="none",
        log_target=True,
    ).sum(dim=1)
    return alpha * temperature**2 * soft + (1 - alpha) * cross_entropy(logits, targets)


def deferral(logits: Tensor, targets: Tensor, alpha: float) -> Tensor:
    """Returns what a student should be: sure where it is right, unsure where it is wrong.

    Gatekeeper, Rabanser et al., 2025, arXiv 2502.19335, section 3: L = alpha * L_corr +
    (1 - alpha) * L_incorr, with L_corr the mean over all samples of 1{y = y^} * CE(p, y) and
    L_incorr that of 1{y != y^} * KL(p || U), where y^ is the largest of p and U is uniform.

    Args:
        logits: the student's, float [N, labels].
        targets: what is right, int64 [N].
        alpha: weight of being right, 0 to 1.
    """
    log_p = functional.log_softmax(logits, dim=1)
    from_uniform = (log_p.exp() * log_p).sum(dim=1) + math.log(logits.shape[1])
    is_right = logits.argmax(dim=1) == targets
    return torch.where(is_right, alpha * cross_entropy(logits, targets), (1 - alpha) * from_uniform)
