"""What docs/certificate.md says of defaults, numbers and commands is what the code does."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from cloud.certificate.bound import enough_trials, fewest_trials
from cloud.certificate.calibration import NOTHING_ACCEPTED
from cloud.certificate.grid import COVERAGES
from cloud.config import CertificateConfig
from escalon.cli import main
from escalon.what_if.words import HEADS
from shared.messages import Prediction, to_json
from tests.cloud_desk import Desk
from tests.recording import record
from tests.traffic import Seen

DOCUMENT = (Path(__file__).parents[1] / "docs" / "certificate.md").read_text()


def test_its_promise_is_the_default() -> None:
    (text,) = re.findall(r"```yaml\n# a pipeline of the cloud\n(.*?)```", DOCUMENT, re.DOTALL)
    shown = yaml.safe_load(text)["certificate"]
    assert shown == CertificateConfig().model_dump()


def test_its_numbers_are_those_of_the_code() -> None:
    found = [f(alpha, 0.05) for f in (fewest_trials, enough_trials) for alpha in (0.05, 0.02)]
    numbers = re.findall(
        r"disagreement (\d+) for . = 5 % and (\d+) for . = 2 % \(δ = 5 %\); with half of the "
        r"promised risk (\d+) and (\d+)\.", DOCUMENT,
    )  # fmt: skip
    assert [int(each) for each in numbers[0]] == found
    assert f"enough ({enough_trials(0.05, 0.05)} accepted ones for" in DOCUMENT
    assert f"the threshold is {NOTHING_ACCEPTED:g}, above" in DOCUMENT
    assert (
        f"accept {COVERAGES[0]:.0%}, {COVERAGES[1]:.0%} … {COVERAGES[-1]:.0%}".replace("%", " %")
        in DOCUMENT
    )


def test_it_names_files_that_there_are() -> None:
    folder = Path(__file__).parents[1] / "cloud" / "certificate"
    named = set(re.findall(r"`(\w+\.py)`", DOCUMENT))
    assert len(named) >= 5
    assert [name for name in named if not (folder / name).exists()] == []


def test_its_table_has_the_columns_of_the_command() -> None:
    assert (
        re.findall(r"^THRESHOLD .*", DOCUMENT, re.MULTILINE)[0].split() == " ".join(HEADS).split()
    )


def answer(decided_by: str, latency_ms: float) -> bytes:
    return to_json(
        Prediction(
            id="a", device_id="s", timestamp=1.0, prediction="one", confidence=0.9,
            decided_by=decided_by, reason="confident", model="m", model_version="1",  # type: ignore[arg-type]
            latency_ms=latency_ms, node="n",
        )
    )  # fmt: skip


def test_its_commands_do_what_they_say_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(tmp_path, capsys)
    desk.fleet("press-1")
    desk.publish()
    desk.complete()
    seen = Seen.of(np.random.default_rng(1), 6000)
    record(desk.config, seen.sent(np.random.default_rng(2), 0.9, 0.2))
    desk.file("answers.jsonl", answer("tier1", 1.0) + b"\n" + answer("tier2", 9.0))
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"in their order -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if "--plot" in words and importlib.util.find_spec("matplotlib") is None:
            continue
        if "--write" in words:  # the threshold in the document is the demo's
            capsys.readouterr()
            assert main(["what-if", "cloud.yaml", "--json"]) == 0
            rows = json.loads(capsys.readouterr().out)["rows"]
            words[-1] = str(next(row["threshold"] for row in rows if row["certificate"]))
        assert main(words[1:]) == 0, (words, capsys.readouterr().err)
    assert desk.record.version == "2"
    if importlib.util.find_spec("matplotlib") is not None:
        assert "</svg>" in (tmp_path / "what-if.svg").read_text()


def test_its_picture_is_there() -> None:
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", DOCUMENT)
    assert (Path(__file__).parents[1] / "docs" / picture).read_text().rstrip().endswith("</svg>")
