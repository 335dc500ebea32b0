"""The report says what is kept and why, and what became of the usual claims."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from cloud.optimize import machine
from cloud.optimize.choice import choose
from cloud.optimize.machine import Machine
from cloud.optimize.plot import draw
from cloud.optimize.report import Report, as_json, as_text
from cloud.optimize.rows import Budget, Row
from shared.errors import EscalonError
from tests.small_nets import figures

QUICK = Row(
    name="static-u8s8", precision="int8", bytes=254, size=0.254,
    figures=figures(speed_1=1.4, speed_32=2.5, accuracy=0.947),
)  # fmt: skip
SLOW = Row(
    name="dynamic-s8", precision="int8", bytes=300, size=0.3,
    figures=figures(speed_1=0.2, speed_32=0.14),
)  # fmt: skip
FAILED = Row(name="static-s8s8", precision="int8", reason="it does not load: ConvInteger")
FP32 = Row(name="fp32", precision="fp32", bytes=1000, size=1.0, figures=figures())


def report(*rows: Row, **changes: Any) -> Report:
    choice = choose([FP32, *rows], Budget())
    whole: dict[str, Any] = {
        "kept": choice.kept.name,
        "why": choice.why,
        "rows": choice.rows,
        "budget": Budget(),
        "machine": Machine("a CPU", True, "1.32.0"),
        "labels": 10,
        "scores": "logits",
        "calibrated": 128,
        "labelled": 256,
        "seconds": 3.21,
    }
    return Report(**(whole | changes))


def test_each_usual_claim_is_held_against_what_is_kept() -> None:
    claims = report(QUICK, SLOW, FAILED).claims
    assert [(claim.what, round(claim.here, 2), claim.holds) for claim in claims] == [
        ("smaller by, %", 74.6, False),
        ("faster at one sample, x", 1.4, False),
        ("faster at a batch of 32, x", 2.5, True),
        ("points lost", 0.3, True),
    ]
    assert [(claim.low, claim.high) for claim in claims[1:3]] == [(0.2, 1.4), (0.14, 2.5)]


def test_where_nothing_but_fp32_loads_there_is_nothing_to_claim() -> None:
    assert report(FAILED).claims == []
    assert "fp32 is kept" in as_text(report(FAILED))


def test_the_json_holds_all_that_the_table_shows() -> None:
    read = json.loads(as_json(report(QUICK, SLOW, FAILED)))
    assert read["kept"] == "static-u8s8"
    assert [row["name"] for row in read["rows"]] == [
        "fp32",
        "static-u8s8",
        "dynamic-s8",
        "static-s8s8",
    ]
    assert read["rows"][1]["figures"]["speed_32"] == 2.5
    assert read["rows"][3]["figures"] is None
    assert read["machine"] == {
        "cpu": "a CPU", "sums_8_bits": True, "runtime": "1.32.0", "threads": 1,
    }  # fmt: skip
    assert [claim["claimed"] for claim in read["claims"]] == [
        "75 %", "2 to 4x", "2 to 4x", "below 1",
    ]  # fmt: skip


def test_the_table_has_a_line_for_each_candidate_with_its_reason() -> None:
    lines = as_text(report(QUICK, SLOW, FAILED)).splitlines()
    assert lines[0] == "a CPU, with VNNI, one thread, ONNX Runtime 1.32.0"
    by_name = {line.split()[0]: line for line in lines if line.strip()}
    assert by_name["static-u8s8"].endswith("kept") or "is kept" in by_name["static-u8s8"]
    assert by_name["dynamic-s8"].endswith("slower than fp32 at one sample: 0.20x")
    assert by_name["static-s8s8"].endswith("it does not load: ConvInteger")
    assert "1.40x" in next(line for line in lines if line.startswith("static-u8s8 "))


def test_without_labels_the_table_says_what_stands_for_them() -> None:
    row = Row(
        name="weights", precision="fp32", bytes=260, size=0.26,
        figures=figures(accuracy=None, source_accuracy=None, agreement=0.999),
    )  # fmt: skip
    text = as_text(report(row, labelled=0))
    assert "held against fp32's own answers, for want of labels" in text
    assert "99.90 %" in text


@pytest.mark.parametrize(
    ("cpuinfo", "name", "sums"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: sse2 avx512_vnni\n", "AMD EPYC", True),
        ("model name\t: An older CPU\nflags\t\t: sse2 avx2\n", "An older CPU", False),
        ("Features\t: fp asimd asimddp\n", None, True),
        (None, None, False),
    ],
    ids=["vnni", "without", "arm", "no-proc"],
)
def test_a_machine_says_whether_it_has_an_instruction_for_8_bits(
    cpuinfo: str | None, name: str | None, sums: bool, tmp_path: Path
) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo)
    found = machine.describe(path)
    assert found.sums_8_bits is sums
    assert found.cpu == name or name is None


# The plot


def test_the_plot_names_every_candidate_that_loads_and_is_the_same_every_time() -> None:
    picture = draw(report(QUICK, SLOW, FAILED))
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    texts = "".join(ElementTree.fromstring(picture).itertext())
    assert all(name in texts for name in ("fp32", "static-u8s8", "dynamic-s8"))
    assert "static-s8s8" not in texts
    assert "static-u8s8 is kept" in texts
    assert draw(report(QUICK, SLOW, FAILED)) == picture


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EscalonError, match=r"pip install 'escalon\[plots\]'"):
        draw(report(QUICK))
