"""The examples of docs/training.md run, and what it says of defaults and bounds is what is."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud.course import TELEMETRY_SHARE
from cloud.gathering import MAX_OUTLINED, MAX_SAMPLES
from cloud.selection import LEAST_UNIFORM
from cloud.training.command_trainer import FOLDER_VARIABLE, GRACE_S, KEPT_VARIABLES
from cloud.training.config import (
    DeferralConfig,
    PruningConfig,
    Tier1TrainingConfig,
    Tier2TrainingConfig,
    TrainingConfig,
)
from cloud.training.contract import ORIGINS, Job, TrainerReport
from cloud.training.dataset import TUNING_SHARE, UNIFORM_TAUGHT_SHARE
from cloud.training.job import MAX_LOG_BYTES
from cloud.training.jobs_folder import KEPT
from cloud.training.limits import NICE
from cloud.training.order import read_report
from escalon.cli import main

DOCUMENT = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOCUMENT, re.DOTALL)


def block(language: str, beginning: str) -> str:
    """Returns the one code block that begins so."""
    found: str
    (found,) = [text for kind, text in BLOCKS if kind == language and text.startswith(beginning)]
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page makes first: data, keys, the cloud's YAML."""
    folder = tmp_path_factory.mktemp("try")
    made = block("python", "from pathlib import Path\n\nimport numpy")
    subprocess.run([sys.executable, "-c", made], cwd=folder, check=True)
    (folder / "cloud.yaml").write_text(block("yaml", "# cloud.yaml"))
    with contextlib.chdir(folder):
        assert main(["keys", "init", "keys/"]) == 0
    return folder


def test_its_commands_do_what_they_say_in_their_order(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    (text,) = re.findall(r"in their order -->\n```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    commands = [shlex.split(line, comments=True) for line in text.splitlines()]
    assert [command[:2] for command in commands] == [
        ["escalon", "keys"], ["escalon", "validate"], ["escalon", "train"], ["escalon", "train"],
    ]  # fmt: skip
    for command in commands[1:]:
        assert main(command[1:]) == 0, (command, capsys.readouterr().err)
    said = capsys.readouterr()
    shown = block("text", "candidate in try/candidate")
    assert as_pattern(shown).search(said.out), said.out
    report = read_report(prepared / "try" / "candidate")
    assert report is not None
    assert report.calibration.certificate is not None


def as_pattern(shown: str) -> re.Pattern[str]:
    """Returns what a text looks like whatever its figures are."""
    return re.compile(re.sub(r"\d[\d,.]*", r"[\\d,.e-]+", re.escape(shown).replace(r"\,", ",")))


def with_training(prepared: Path, section: str, name: str) -> Path:
    """Writes the cloud's YAML with another training section."""
    config = yaml.safe_load((prepared / "cloud.yaml").read_text())
    config["pipelines"]["digits"]["training"] = yaml.safe_load(section)
    path = prepared / name
    path.write_text(yaml.safe_dump(config))
    return path


def test_its_trainer_of_a_users_makes_a_candidate(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    monkeypatch.setenv("TRAINERS", str(prepared))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    (prepared / "fit.py").write_text(block("python", "# fit.py"))
    section = block("yaml", "# a training section for a program")
    config = with_training(prepared, section, "command.yaml")
    assert main(["train", "own", "--config", str(config)]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "trained by command" in said.out
    assert "tier1, epoch 1/1" in said.err


def test_its_section_for_pytorch_makes_a_candidate(
    prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    section = block("yaml", "# a training section for PyTorch")
    config = with_training(prepared, section, "torch.yaml")
    assert main(["validate", str(config)]) == 0
    if importlib.util.find_spec("torch") is None:
        assert main(["train", "deep", "--config", str(config)]) == 1
        assert "pip install 'escalon[torch]'" in capsys.readouterr().err
        pytest.skip("the extra `torch` is not installed")
    assert main(["train", "deep", "--config", str(config)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "structured pruning" in said
    assert "deferral-aware" in said


def test_its_settings_are_the_defaults() -> None:
    shown: dict[str, Any] = yaml.safe_load(block("yaml", "# training, as it is by default"))
    whole = TrainingConfig(base=Path("b"), first_job=Path("f"))
    defaults = whole.model_dump(mode="json")
    del defaults["base"], defaults["first_job"]
    assert set(shown) == set(defaults)
    assert {key: value for key, value in shown.items() if key != "tier2"} == {
        key: value for key, value in defaults.items() if key != "tier2"
    }
    assert shown["tier2"]["augmented_copies"] == Tier2TrainingConfig().augmented_copies
    others = re.findall(r"^  (\w+): .*# tier2: (.*)$", DOCUMENT, re.MULTILINE)
    assert {key: yaml.safe_load(text) for key, text in others} == {
        key: value
        for key, value in defaults["tier2"].items()
        if key in defaults["tier1"] and value != defaults["tier1"][key]
    }
    only = set(Tier1TrainingConfig.model_fields) - set(Tier2TrainingConfig.model_fields)
    assert only == {"distillation", "deferral"}
    for key, section in (("pruning", PruningConfig()), ("deferral", DeferralConfig())):
        (text,) = re.findall(rf"{key}: null .*# torch: (.*)$", DOCUMENT, re.MULTILINE)
        assert yaml.safe_load(text) == section.model_dump()


def test_its_folder_is_the_contracts() -> None:
    row = next(line for line in DOCUMENT.splitlines() if line.startswith("| `job.json`"))
    assert set(Job.model_fields) - {"schema_version"} <= set(re.findall(r"`(\w+)`", row))
    row = next(line for line in DOCUMENT.splitlines() if line.startswith("| `report.json` | it"))
    assert set(TrainerReport.__struct_fields__) == set(re.findall(r"`(\w+)`", row))
    row = next(line for line in DOCUMENT.splitlines() if line.startswith("| `dataset/train.npz`"))
    assert [int(each) for each in re.findall(r"(\d) (?:base|noisy|escalated|of the)", row)] == list(
        range(len(ORIGINS))
    )


def test_its_figures_are_the_codes() -> None:
    assert (UNIFORM_TAUGHT_SHARE, TUNING_SHARE) == (1 / 3, 1 / 4)
    assert f"Fewer than {LEAST_UNIFORM} such" in DOCUMENT
    assert f"at most {MAX_SAMPLES:,}, and no more bytes than an eighth" in DOCUMENT
    assert (TELEMETRY_SHARE, MAX_OUTLINED) == (1 / 8, 1_000_000)
    assert f"the last {MAX_LOG_BYTES // 1024} KiB are kept" in DOCUMENT
    assert f"has {GRACE_S:g} s to hand that on" in DOCUMENT
    assert f"(nice {NICE})" in DOCUMENT
    assert KEPT == 10
    assert "of which the last ten stay" in DOCUMENT
    line = next(line for line in DOCUMENT.splitlines() if line.startswith("**Its environment**"))
    assert {*KEPT_VARIABLES, FOLDER_VARIABLE} <= set(re.findall(r"`([A-Z_]+)`", line))
