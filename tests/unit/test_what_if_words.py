"""The table of thresholds as people read it, and the picture of it."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud.certificate.latency import Latencies
from cloud.certificate.message_bytes import MessageBytes
from cloud.certificate.observed import Observed
from cloud.certificate.promise import Promise
from cloud.certificate.what_if import what_if
from escalon.what_if.picture import PictureError, check_picture, draw
from escalon.what_if.predictions import PredictionsError, read_latencies
from escalon.what_if.report import Report, VersionCurve
from escalon.what_if.words import HEADS, in_words, percent, threshold_text
from shared.errors import StorageError
from shared.messages import DecidedBy, PackPrediction, Prediction, to_json
from tests.traffic import Seen

PROMISE = Promise(alpha=0.05, delta=0.05, escalation_budget=0.3)


def report(latencies: Latencies | None = None) -> Report:
    columns = Seen.of(np.random.default_rng(1), 20_000).sent(np.random.default_rng(2), 0.95, 0.05)
    observed = Observed.of(columns, tier1_version="1", tier2_version="7", score="max_probability")
    found = what_if(
        observed,
        running=[0.95],
        promise=PROMISE,
        message=MessageBytes.of((8,), 3, 1),
        rng=np.random.default_rng(3),
        latencies=latencies,
    )
    curve = VersionCurve("meter-tier1/1", len(observed.chances), observed.curve())
    return Report("meter", "meter-tier1/1", "7", 1, found, (curve,))


@pytest.fixture(scope="module")
def plain() -> Report:
    return report()


@pytest.fixture(scope="module")
def timed() -> Report:
    rng = np.random.default_rng(4)
    return report(Latencies(rng.exponential(1, 200), 10 + rng.exponential(5, 200)))


def test_the_table_has_a_line_a_threshold_and_marks_the_one_that_runs(plain: Report) -> None:
    lines = in_words(plain).split("\n\n")[1].splitlines()
    assert lines[0].split() == " ".join(HEADS).split()
    assert len(lines) == 1 + len(plain.what_if.rows)
    assert lines[1].startswith("tier-2 alone")
    assert lines[-1].startswith("tier-1 alone")
    assert [line.split()[0] for line in lines if " * " in line] == ["0.95"]


def test_it_says_what_is_promised_and_why_no_more_is(plain: Report) -> None:
    text = in_words(plain)
    assert "P(tier-1 disagrees with tier-2 | accepted) <= 5.00 % with 95 %" in text
    assert f"No more are certified: {plain.what_if.why}." in text
    certified = plain.what_if.certified[-1].certificate
    assert certified is not None
    assert f"{certified.disagreements} of {certified.n}, <= {percent(certified.bound)}" in text


def test_it_says_that_latencies_are_not_known_unless_they_are(plain: Report, timed: Report) -> None:
    assert "Latencies are not known" in in_words(plain)
    assert "Latencies are not known" not in in_words(timed)
    assert re.search(r"tier-2 alone .* \d+\.\d ms  +\d+\.\d ms", in_words(timed))


def test_of_several_files_it_says_that_it_speaks_of_their_mixture(plain: Report) -> None:
    assert "mixture" not in in_words(plain)
    assert "The version has 2 files" in in_words(replace(plain, files=2))


def test_each_threshold_can_be_written_as_it_is_shown(plain: Report) -> None:
    for row in plain.what_if.rows:
        assert float(np.float32(threshold_text(row.threshold))) == row.threshold


@pytest.mark.parametrize(
    ("share", "text"), [(0.5, "50.0 %"), (0.0123, "1.23 %"), (1.0, "100.0 %"), (np.nan, "-")]
)
def test_shares_are_percentages(share: float, text: str) -> None:
    assert percent(share) == text


def test_programs_get_names_and_values(plain: Report) -> None:
    facts = msgspec.json.decode(msgspec.json.encode(plain.facts()))
    assert facts["pipeline"] == "meter"
    assert len(facts["rows"]) == len(plain.what_if.rows)
    assert facts["rows"][0]["risk"]["value"] is None
    assert facts["versions"] == [
        {
            "version": "meter-tier1/1",
            "samples": plain.what_if.samples,
            "aurc": plain.versions[0].aurc,
            "augrc": plain.versions[0].augrc,
        }
    ]


# The picture

needs_plots = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs the extra plots"
)


@needs_plots
def test_the_picture_is_drawn_the_same_for_the_same_table(timed: Report, tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg"):
        check_picture(tmp_path / name)
        draw(timed, tmp_path / name)
    one = (tmp_path / "one.svg").read_text()
    assert one == (tmp_path / "other.svg").read_text()
    assert one.startswith("<?xml")
    assert "</svg>" in one


@needs_plots
@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")])
def test_it_is_of_the_kind_that_its_name_says(
    plain: Report, tmp_path: Path, name: str, magic: bytes
) -> None:
    draw(plain, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


@needs_plots
def test_latencies_are_a_panel_of_their_own(plain: Report, timed: Report, tmp_path: Path) -> None:
    widths = []
    for place, each in enumerate((plain, timed)):
        draw(each, tmp_path / f"{place}.svg")
        text = (tmp_path / f"{place}.svg").read_text()
        (width,) = re.findall(r'<svg [^>]*width="([\d.]+)pt"', text)
        widths.append(float(width))
    assert widths[1] == pytest.approx(widths[0] * 4 / 3)


@needs_plots
def test_a_kind_that_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"name it \.svg, \.png, \.pdf"):
        check_picture(tmp_path / "a.txt")


def test_without_the_extra_it_says_which_one_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PictureError, match=r"pip install 'escalon\[plots\]'"):
        check_picture(tmp_path / "a.svg")


# Latencies


def prediction(decided_by: DecidedBy, latency_ms: float, **more: Any) -> bytes:
    return to_json(
        Prediction(
            id="a",
            device_id="s",
            timestamp=1.0,
            prediction="one",
            confidence=0.9,
            decided_by=decided_by,
            reason="confident",
            model="m",
            model_version="1",
            latency_ms=latency_ms,
            node="n",
            **more,
        )
    )


PACK = to_json(
    PackPrediction(
        id="a",
        device_id="s",
        timestamp=1.0,
        predictions=["one"] * 2,
        confidences=[0.9] * 2,
        decided_by=["tier1", "tier2"],
        reasons=["confident"] * 2,
        model_versions=["1", "2"],
        latency_ms=7.0,
        node="n",
    )
)


def test_latencies_are_those_of_who_decided(tmp_path: Path) -> None:
    lines = [
        prediction("tier1", 1.0), prediction("tier2", 9.0), prediction("fallback", 500.0), b"",
        PACK, prediction("tier2", 30.0, supersedes="a"),
    ]  # fmt: skip
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b"\n".join(lines))
    found = read_latencies(path)
    assert found.alone_ms.tolist() == [1.0, 7.0]
    assert found.asked_ms.tolist() == [9.0, 500.0, 7.0]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"\n".join([prediction("tier1", 1.0)]), "1 answers of tier-1", id="one-kind"),
        pytest.param(b"escalon/x {}", r"answers.jsonl:1: .* without -v", id="no-json"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(data)
    with pytest.raises(PredictionsError, match=problem):
        read_latencies(path)


def test_a_recording_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*answers.jsonl"):
        read_latencies(tmp_path / "answers.jsonl")
