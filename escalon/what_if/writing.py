"""``escalon what-if --write``: a threshold becomes a version, and its rollout begins."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from cloud.certificate.what_if import Row, WhatIf
from cloud.director import new_ticket
from cloud.rollout.decision import Decision
from cloud.rollout.phases import IllegalCommandError
from cloud.version import Version
from escalon.release.scope import Scope
from escalon.what_if.words import threshold_text
from shared.errors import EscalonError, ManifestError
from shared.model_spec import Calibration, Certificate


class NotCertifiedError(EscalonError):
    """Nothing is promised of a threshold, and nobody has said that this is known."""


def chosen(
    found: WhatIf, threshold: float, *, uncertified: bool
) -> tuple[float, Certificate | None]:
    """Returns the threshold that is meant, exactly, and what is promised of it.

    Args:
        found: the table.
        threshold: as the table shows it.
        uncertified: whether one of which nothing is promised may be taken, of the table or not.

    Raises:
        NotCertifiedError: nothing is promised of it.
    """
    row = _row(found, threshold)
    if row is not None and row.certificate is not None:
        return row.threshold, row.certificate
    if uncertified:
        return (row.threshold if row else threshold), None
    certified = ", ".join(threshold_text(each.threshold) for each in found.certified)
    why = f" ({found.why})" if row is not None and found.why else ""
    raise NotCertifiedError(
        f"threshold {threshold_text(threshold)} is "
        f"{'not certified' if row else 'not in the table, so it was not tested'}{why}; certified "
        f"are: {certified or 'none'}. Fix: take one of them, or say --uncertified"
    )


def with_threshold(
    version: Version,
    threshold: float,
    certificate: Certificate | None,
    *,
    by: str,
    notes: str,
    made: float,
) -> Version:
    """Returns a version, still without a name, that differs in its threshold.

    All files of the release get it: telemetry does not say which of them answered, so the
    certificate speaks of the mixture that ran.

    Args:
        version: what it is made from.
        threshold: tier-1 accepts from this certainty on.
        certificate: what is promised of it.
        by: who made it.
        notes: in words.
        made: when, seconds since 1970.
    """
    variants = tuple(
        msgspec.structs.replace(
            variant,
            calibration=Calibration(
                temperature=variant.calibration.temperature,
                threshold=threshold,
                certificate=certificate,
                score=variant.calibration.score,
                reason="" if certificate else f"{by} chose the threshold without a certificate",
            ),
        )
        for variant in version.release.variants
    )
    release = msgspec.structs.replace(version.release, version="", variants=variants)
    return msgspec.structs.replace(
        version, release=release, made=made, by=by, notes=notes, parents=(version.qualified,)
    )


def offer(scope: Scope, made_from: Version, draft: Version) -> tuple[Version, Decision]:
    """Keeps a version under the next name and begins its rollout.

    Done again after it was cut off, it goes on with the version that is there.

    Args:
        scope: tier-1's channel.
        made_from: the version that the draft was made from, which must stand.
        draft: as ``with_threshold`` returns it.

    Raises:
        EscalonError: another version stands, or no rollout may begin.
    """
    channel, registry = scope.only, scope.registry
    fleet = scope.fleet(channel.name)
    with channel.lock.claimed():
        try:
            channel.check(fleet)
        except (IllegalCommandError, ManifestError) as error:
            raise EscalonError(f"not written: {error}") from error
        if channel.standing() != made_from.name:
            raise EscalonError(
                f"not written: the threshold is one of {made_from.qualified}, and version "
                f"{channel.standing()} stands now. Fix: look at that one"
            )
        version = registry.same_release(channel.name, draft.release)
        if version is None:
            name = registry.next_name(channel.name)
            release = msgspec.structs.replace(draft.release, version=name)
            version = registry.add_version(msgspec.structs.replace(draft, release=release))
        return version, channel.offer(version.name, fleet, new_ticket(time.time()))


def _row(found: WhatIf, threshold: float) -> Row | None:
    meant = float(np.float32(threshold))
    return next((row for row in found.rows if row.threshold == meant), None)
