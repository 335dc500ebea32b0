"""Trainings of long ago take no room for ever."""

from __future__ import annotations

from pathlib import Path

from cloud.training.jobs_folder import KEPT, job_folder


def test_the_oldest_trainings_of_a_pipeline_are_deleted(tmp_path: Path) -> None:
    for number in range(1, KEPT + 4):
        folder = job_folder(tmp_path, "meter", str(number))
        (folder / "candidate").mkdir(parents=True)
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {f"meter-{number}" for number in range(4, KEPT + 4)}


def test_a_training_that_is_begun_again_and_those_of_others_stay(tmp_path: Path) -> None:
    names = [f"meter-{number}" for number in range(1, KEPT + 1)]
    others = ["meter-2-5", "meter-kept", "pump-1"]
    for name in names + others:
        (tmp_path / name).mkdir()
    assert job_folder(tmp_path, "meter", "1") == tmp_path / "meter-1"
    assert {each.name for each in tmp_path.iterdir()} == {*names, *others}
