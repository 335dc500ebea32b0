"""What recorded traffic says of other thresholds is what they would have done with all of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cloud.certificate.calibration import NOTHING_ACCEPTED
from cloud.certificate.latency import Latencies
from cloud.certificate.message_bytes import NAME, MessageBytes
from cloud.certificate.observed import Observed, TrafficError, versions_of
from cloud.certificate.promise import Promise
from cloud.certificate.what_if import WhatIf, what_if
from shared.messages import (
    EscalatedSample,
    Escalation,
    Telemetry,
    TelemetryRecord,
    Tensor,
    pack,
)
from shared.scores import Flags, certainty
from tests.traffic import Columns, Seen

RUNNING, AUDIT_SHARE = 0.95, 0.05
PROMISE = Promise(alpha=0.05, delta=0.05, escalation_budget=0.3)
MESSAGE = MessageBytes.of((8,), 3, 1)


@pytest.fixture(scope="module")
def seen() -> Seen:
    return Seen.of(np.random.default_rng(1), 60_000)


@pytest.fixture(scope="module")
def columns(seen: Seen) -> Columns:
    return seen.sent(np.random.default_rng(2), RUNNING, AUDIT_SHARE, label_share=0.1)


def observed(columns: Columns, asked: Flags | None = None) -> Observed:
    return Observed.of(
        columns, tier1_version="1", tier2_version="7", score="max_probability", asked=asked
    )


def ask(columns: Columns, latencies: Latencies | None = None, asked: Flags | None = None) -> WhatIf:
    return what_if(
        observed(columns, asked),
        running=[RUNNING],
        promise=PROMISE,
        message=MESSAGE,
        rng=np.random.default_rng(3),
        latencies=latencies,
    )


@pytest.fixture(scope="module")
def found(columns: Columns) -> WhatIf:
    return ask(columns)


def test_each_row_is_what_the_threshold_would_have_done_with_all(found: WhatIf, seen: Seen) -> None:
    answers, tier2 = seen.tier1.argmax(axis=1), seen.tier2.argmax(axis=1)
    for row in found.rows:
        accepted = seen.certainty >= np.float32(row.threshold)
        assert row.coverage.lower <= accepted.mean() <= row.coverage.upper
        assert row.escalated == pytest.approx(1 - row.coverage.value)
        if accepted.any():
            risk = (answers != tier2)[accepted].mean()
            assert row.risk.lower <= risk <= row.risk.upper
    assert found.gated == pytest.approx(60_000, rel=0.05)
    assert found.audit_share == pytest.approx(AUDIT_SHARE, rel=0.1)


def test_the_table_begins_with_tier2_alone_and_ends_with_tier1_alone(found: WhatIf) -> None:
    first, last = found.rows[0], found.rows[-1]
    assert (first.threshold, first.coverage.value, first.risk.n) == (NOTHING_ACCEPTED, 0.0, 0)
    assert (last.threshold, last.coverage.value) == (0.0, 1.0)
    thresholds = [row.threshold for row in found.rows]
    assert thresholds == sorted(set(thresholds), reverse=True)
    assert [row.threshold for row in found.rows if row.runs] == [float(np.float32(RUNNING))]


def test_what_is_certified_holds_and_the_rest_says_why(found: WhatIf, seen: Seen) -> None:
    disagrees = seen.tier1.argmax(axis=1) != seen.tier2.argmax(axis=1)
    assert found.certified
    for row in found.certified:
        certificate = row.certificate
        assert certificate is not None
        assert certificate.bound <= PROMISE.alpha
        assert disagrees[seen.certainty >= np.float32(row.threshold)].mean() <= PROMISE.alpha
        assert certificate.n <= found.uniform
        # All samples say what is accepted, not those of the test alone.
        assert certificate.coverage == pytest.approx(row.coverage.value)
    assert found.rows[-1].certificate is None
    assert "at threshold 0." in found.why


def test_accuracy_goes_by_labels_and_by_tier2_where_there_is_none(seen: Seen) -> None:
    everything = seen.sent(np.random.default_rng(4), RUNNING, 1.0)
    without = ask(everything)
    assert without.labelled == 0
    assert without.rows[0].accuracy.value == 1.0
    labelled = ask(replace(everything, label=seen.truth))
    right = seen.tier2.argmax(axis=1) == seen.truth
    assert labelled.rows[0].accuracy.value == pytest.approx(right.mean())
    alone = seen.tier1.argmax(axis=1) == seen.truth
    assert labelled.rows[-1].accuracy.value == pytest.approx(alone.mean())


def test_labels_that_were_all_asked_for_certify_nothing(columns: Columns, found: WhatIf) -> None:
    def labelled(found: WhatIf) -> list[int]:
        return [row.certificate.labelled for row in found.certified if row.certificate]

    everything = ask(columns, asked=columns.label >= 0)
    assert min(labelled(found)) > 20
    assert set(labelled(everything)) == {0}
    assert everything.labelled == found.labelled > 0


def test_bytes_are_those_of_real_messages(found: WhatIf) -> None:
    def zeros(*shape: int) -> Tensor:
        return Tensor.of(np.zeros(shape, np.float32))

    sample = EscalatedSample(2**62, NAME, NAME, 0.5, "low_confidence", False, 1.0)
    asked = Escalation(1, NAME, NAME, "1", 500.0, 1, 1, (sample,), zeros(1, 8), zeros(1, 3))
    record = TelemetryRecord(sample, NAME, NAME, "1", "1", zeros(3), zeros(3), zeros(8))
    assert len(pack(asked)) == MESSAGE.escalation == found.all_bytes
    assert len(pack(Telemetry(1, NAME, "0" * 32, (record,), ()))) == MESSAGE.record
    assert MESSAGE.record - MESSAGE.bare_record > 8 * 4
    many = MessageBytes.of((8,), 3, 100)
    assert 44 < many.escalation < MESSAGE.escalation
    for row in found.rows:
        assert row.sent == pytest.approx(row.escalated + found.audit_share * row.coverage.value)
        assert row.tier2_bytes == pytest.approx(row.sent * MESSAGE.escalation)
        assert row.uplink_bytes == pytest.approx(row.sent * MESSAGE.record)


def test_inputs_that_stay_on_the_site_are_no_bytes_of_the_uplink(columns: Columns) -> None:
    withheld = replace(columns, has_input=np.full(len(columns.label), False))
    row = ask(withheld).rows[0]
    assert row.uplink_bytes == pytest.approx(MESSAGE.bare_record)


def test_latencies_are_mixed_as_samples_are(columns: Columns, found: WhatIf) -> None:
    assert all(row.latency is None for row in found.rows)
    rng = np.random.default_rng(5)
    alone, asked = rng.exponential(1, 3000), 10 + rng.exponential(5, 300)
    rows = ask(columns, Latencies(alone, asked)).rows
    assert rows[0].latency is not None
    assert rows[0].latency.mean_ms == pytest.approx(asked.mean())
    assert rows[0].latency.p50_ms == pytest.approx(np.median(asked), abs=0.1)
    assert rows[-1].latency is not None
    assert rows[-1].latency.p99_ms == pytest.approx(np.quantile(alone, 0.99), abs=0.1)
    means = [row.latency.mean_ms for row in rows if row.latency]
    assert means == sorted(means, reverse=True)


def test_a_half_and_half_mixture_has_its_quantiles() -> None:
    mixed = Latencies(np.array([1.0, 2.0]), np.array([10.0])).mixed(0.5)
    assert (mixed.mean_ms, mixed.p50_ms, mixed.p99_ms) == (5.75, 2.0, 10.0)


def test_malformed_scores_are_accepted_by_no_threshold(seen: Seen) -> None:
    columns = seen.sent(np.random.default_rng(6), RUNNING, 1.0)
    columns.tier1[:6000] = np.nan
    found = ask(columns)
    assert found.rows[-1].coverage.value == pytest.approx(0.9)
    curve = observed(columns).curve()
    assert curve.coverage[-2] == pytest.approx(0.9)


def test_the_certainty_is_that_of_the_release(columns: Columns) -> None:
    found = Observed.of(columns, tier1_version="1", tier2_version="7", score="margin")
    expected = certainty(columns.tier1, columns.tier1, "margin")
    assert found.certainty.tolist() == expected.tolist()
    with pytest.raises(TrafficError, match="cannot be computed again"):
        Observed.of(columns, tier1_version="1", tier2_version="7", score="energy")


def test_versions_are_kept_apart(columns: Columns, seen: Seen) -> None:
    other = seen.sent(np.random.default_rng(7), 0.5, AUDIT_SHARE, versions=("2", "7"))
    both = joined(columns, other)
    assert observed(both).chances.tolist() == observed(columns).chances.tolist()
    assert versions_of(both) == {"1": len(columns.label), "2": len(other.label)}
    with pytest.raises(TrafficError, match=r"nothing is recorded of version 3 .* beside .* 1, 2"):
        Observed.of(both, tier1_version="3", tier2_version="7", score="margin")


def joined(one: Columns, other: Columns) -> Columns:
    """Returns what both hold, one after the other."""

    def of(name: str) -> Any:
        first, then = getattr(one, name), getattr(other, name)
        return first + then if isinstance(first, tuple) else np.concatenate([first, then])

    return Columns(**{name: of(name) for name in Columns.__dataclass_fields__})


def test_without_an_audit_nothing_is_known_of_what_tier1_answers_alone(columns: Columns) -> None:
    unaudited = replace(columns, audit=np.full(len(columns.label), False))
    with pytest.raises(TrafficError, match="Fix: set `audit_share`"):
        observed(unaudited)
