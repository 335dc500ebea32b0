"""Chooses which artefact of a release serves on this node. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.errors import SmokeError
from shared.releases.trial import TrialResult

MIB = 2**20


@dataclass(frozen=True)
class ChoiceLimits:
    """What an artefact may cost. Lenient: a model that is better is often slower as well.

    Attributes:
        max_slowdown: so many times the running model's latency, and no more.
        free_latency_ms: up to here a slowdown does not matter.
        available_bytes: memory that the node has left beside the running model; None if unknown.
        tie: int8 is taken if it is slower by no more than this share: it is smaller, and two
            measurements of one model differ by as much.
    """

    max_slowdown: float = 4.0
    free_latency_ms: float = 1.0
    available_bytes: int | None = None
    tie: float = 0.05


@dataclass(frozen=True)
class Choice:
    """The artefact that is to serve.

    Attributes:
        chosen: its trial.
        reason: why it, in words and figures, for the report.
    """

    chosen: TrialResult
    reason: str


def choose(
    results: Sequence[TrialResult],
    running: TrialResult | None,
    limits: ChoiceLimits | None = None,
) -> Choice:
    """Returns the fastest artefact among those that passed and cost no more than they may.

    Args:
        results: of the release's artefacts.
        running: of the model that runs; None without one.
        limits: what an artefact may cost.

    Raises:
        SmokeError: there is none; the reason says why of each.
    """
    limits = limits or ChoiceLimits()
    refusals = [_refusal(result, running, limits) for result in results]
    fit = [result for result, refusal in zip(results, refusals, strict=True) if not refusal]
    said = [_said(each, refusal) for each, refusal in zip(results, refusals, strict=True)]
    if not fit:
        raise SmokeError(f"no artefact may serve here: {'; '.join(said) or 'there is none'}")
    fastest_ms = min(result.latency_ms for result in fit)
    chosen = min(fit, key=lambda each: _rank(each, fastest_ms, limits.tie))
    said += [_said_of_running(running)]
    if not chosen.network_isolated:
        said += ["tried with the network in reach: this system gives no namespace"]
    return Choice(chosen, f"{chosen.precision} is taken: {'; '.join(said)}")


def _refusal(result: TrialResult, running: TrialResult | None, limits: ChoiceLimits) -> str:
    """Returns why an artefact may not serve; empty if it may."""
    if not result.passed:
        return result.reason
    available = limits.available_bytes
    if available is not None and result.memory_bytes > available:
        return f"it takes {_mib(result.memory_bytes)}, and {_mib(available)} are left"
    if running is None or not running.passed:
        return ""
    most_ms = max(limits.free_latency_ms, limits.max_slowdown * running.latency_ms)
    if result.latency_ms > most_ms:
        return (
            f"it takes {_ms(result.latency_ms)} a sample, more than {limits.max_slowdown:g} times "
            f"the {_ms(running.latency_ms)} of the running model"
        )
    return ""


def _rank(result: TrialResult, fastest_ms: float, tie: float) -> tuple[bool, float]:
    """Returns what is smallest for the artefact to take."""
    level = result.precision == "int8" and result.latency_ms <= fastest_ms * (1 + tie)
    return not level, result.latency_ms


def _said(result: TrialResult, refusal: str) -> str:
    return f"{result.precision}: {refusal or _figures(result)}"


def _said_of_running(running: TrialResult | None) -> str:
    if running is None:
        return "no running model to compare with"
    if not running.passed:
        return f"the running model could not be measured: {running.reason}"
    return f"the running model: {_figures(running)}"


def _figures(result: TrialResult) -> str:
    return f"{_ms(result.latency_ms)} a sample, {_mib(result.memory_bytes)}"


def _ms(latency_ms: float) -> str:
    return f"{latency_ms:.3g} ms"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f} MiB"
