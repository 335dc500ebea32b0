"""``escalon release``: versions are published, looked at and rolled out, on the cloud's folder."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from cloud.config import CloudConfig
from cloud.director import BACK
from cloud.notice import NoticeFile
from cloud.optimize.quantize import quantize_int8
from cloud.registry import Registry
from cloud.rollout.phases import Phase
from cloud.rollout.plan import RolloutPlan
from cloud.rollout.record import NodeCourse, published
from cloud.rollout.voids import voided
from cloud.training.export import to_onnx
from cloud.training.network import Dense, Network
from escalon.cli import main
from escalon.release.cloud_signs import CloudSigns
from escalon.release.command import statuses
from escalon.release.scope import Scope
from escalon.release.status import ChannelStatus, status
from escalon.release.versions import moment
from escalon.release.watch import watch
from shared.config_file import ConfigFile
from shared.messages import UpdateReport, to_json
from shared.releases.manifest import Void
from tests.builders import CHANNEL, LABELS, diagonal_onnx, nan_onnx, sha256
from tests.cloud_desk import TIER2, TOPICS, Desk, Said
from tests.hostile_models import adding, external_tensor


@pytest.fixture
def desk(tmp_path: Path, capsys: Said) -> Desk:
    return Desk(tmp_path, capsys)


# Publishing


def test_a_model_is_published_and_its_rollout_begins_with_the_canary(desk: Desk) -> None:
    desk.fleet("press-1", "press-2")
    said = desk.publish("--notes", "from the laboratory", "--metric", "accuracy=0.97")
    assert f"{CHANNEL}/1: rollout {desk.record.id} begins with wave 1 of 4" in said
    version = Registry(desk.state / "registry").version(CHANNEL, "1")
    assert version is not None
    assert (version.by, version.notes, version.metrics) == (
        "ada", "from the laboratory", {"accuracy": 0.97},
    )  # fmt: skip
    variant = version.release.variants[0]
    assert variant.calibration.threshold == 0.9
    # computed here: the file has inputs alone
    assert (variant.scores.array() == 4 * np.eye(3)).all()
    assert (desk.record.version, desk.record.share, desk.record.seq) == ("1", 0.0, 0)
    assert len(desk.record.canaries) == 1


def test_of_several_files_each_has_its_own_golden_scores(desk: Desk) -> None:
    other = desk.file("other.onnx", diagonal_onnx(2.0))
    desk.publish("--fp32", other, "--version", "two-files")
    files = desk.json("show", "two-files")["files"]
    assert [each["precision"] for each in files] == ["fp32", "fp32"]
    version = Registry(desk.state / "registry").version(CHANNEL, "two-files")
    assert version is not None
    scores = [each.scores.array().max() for each in version.release.variants]
    assert scores == [4.0, 8.0]


def test_the_files_of_a_version_with_a_url_are_written_as_a_web_server_needs_them(
    desk: Desk,
) -> None:
    desk.publish("--url", "https://store.example/models/")
    version = Registry(desk.state / "registry").version(CHANNEL, "1")
    assert version is not None
    (artefact,) = version.release.artefacts
    assert artefact.url == f"https://store.example/models/{artefact.sha256}"
    (written,) = desk.json("files", "1", "--to", desk.folder / "www")
    data = (desk.folder / "www" / artefact.sha256).read_bytes()
    assert written == {
        "file": str(desk.folder / "www" / artefact.sha256),
        "bytes": len(data),
        "url": artefact.url,
    }
    starts = [sum(map(artefact.wire_size, range(index))) for index in range(len(artefact.chunks))]
    for index, start in enumerate(starts):
        chunk = data[start : start + artefact.wire_size(index)]
        assert sha256(chunk) == artefact.chunks[index]


def test_a_url_that_nodes_would_refuse_is_refused_here(desk: Desk) -> None:
    with pytest.raises(SystemExit) as ended:
        desk.publish("--url", "file:///models/")
    assert ended.value.code == 2


def test_published_again_after_it_was_cut_off_it_is_the_same_version(desk: Desk) -> None:
    desk.publish()
    desk.publish()
    assert [each["version"] for each in desk.json("list")] == ["1"]


def test_a_release_that_is_there_already_is_said_to_be_and_goes_on_as_it_is(desk: Desk) -> None:
    desk.publish("--notes", "the first", "--metric", "accuracy=0.9")
    (made,) = desk.json("list")
    assert "is this very release already" not in desk.output("show", "1")
    said = desk.publish()
    assert f"{CHANNEL}/1 is this very release already, made {moment(made['made'])} by ada" in said
    assert f"{CHANNEL}/1: rollout {desk.record.id}" in said
    assert desk.json(*desk.publishing("--notes", "the first"))["is_new"] is False
    other = desk.publishing(model=desk.file("other.onnx", diagonal_onnx(3.0)))
    assert desk.json(*other)["is_new"] is True
    assert desk.json("show", "1")["notes"] == "the first"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        pytest.param(("--notes", "another"), "notes", id="notes"),
        pytest.param(("--metric", "accuracy=0.95"), "metrics", id="metric"),
        pytest.param(("--parent", f"{TIER2}/9"), "parents", id="parent"),
        pytest.param(("--version", "1", "--notes", "another"), "notes", id="by-its-name"),
    ],
)
def test_other_words_of_a_release_that_is_there_are_refused_not_dropped(
    desk: Desk, options: tuple[str, str], what: str
) -> None:
    desk.publish("--notes", "the first")
    before = desk.record
    error = desk.refused(*options)
    assert f"{CHANNEL}/1 is this very release already, kept with other {what}, and" in error
    assert f"Fix: `escalon release offer {CHANNEL}/1`" in error
    assert desk.record == before
    desk.publish(*options, "--version", "again")
    assert {each["version"] for each in desk.json("list")} == {"1", "again"}


def test_the_int8_file_of_a_model_is_recognised_beside_its_fp32_file(desk: Desk) -> None:
    inputs = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    eye = Dense(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    fp32 = to_onnx(Network((3,), (), 1.0, (), (eye,)), "eye")
    int8 = desk.file("int8.onnx", quantize_int8(fp32, inputs))
    desk.publish("--fp32", desk.file("fp32.onnx", fp32), model=int8)
    files = desk.json("show", "1")["files"]
    assert [each["precision"] for each in files] == ["int8", "fp32"]
    assert files[0]["tolerance"] > files[1]["tolerance"]


def test_a_model_of_probabilities_is_published_where_nothing_is_trained_from_it(
    desk: Desk,
) -> None:
    error = desk.refused("--scores", "probabilities")
    assert "leave `training:` out of the cloud's YAML" in error
    desk.write_config(training=None)
    golden = desk.npz("whole.npz", inputs=np.eye(3))
    desk.publish("--scores", "probabilities", "--golden", golden)
    assert desk.json("show", "1")["scores"] == "probabilities"


def test_scores_of_another_kind_than_was_said_are_refused(desk: Desk) -> None:
    desk.write_config(training=None)
    error = desk.refused("--scores", "probabilities")
    assert "are no probabilities. Fix: `--scores logits`" in error
    golden = desk.npz("whole.npz", inputs=np.eye(3))
    error = desk.refused("--golden", golden)
    assert "probabilities to every golden input, not logits. Fix: `--scores p" in error


def test_tier2_needs_no_threshold(desk: Desk) -> None:
    desk.output("publish", desk.model, "--pipeline", "meter", "--tier", 2, "--golden", desk.golden)
    assert desk.json("show", f"{TIER2}/1")["files"][0]["calibration"]["threshold"] == 0.0
    error = desk.error(
        "publish", desk.model, "--pipeline", "meter", "--tier", 1, "--golden", desk.golden, code=2
    )
    assert "needs --threshold" in error


def test_labels_are_read_from_lines_or_json_and_must_be_the_pipelines(desk: Desk) -> None:
    desk.publish("--labels", desk.labels)
    desk.publish("--labels", desk.file("l.json", json.dumps(LABELS).encode()))
    turned = desk.file("turned.txt", b"one\nzero\ntwo\n")
    error = desk.refused("--labels", turned)
    assert "number 1 is 'one' here and 'zero' there" in error
    assert "Fix: bring `labels:` in the cloud's YAML" in error
    assert "neither a label a line nor" in desk.refused("--labels", desk.file("b", b"[1, 2]"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param(b"no model", "no node would load it", id="no-onnx"),
        pytest.param(
            adding(external_tensor()).SerializeToString(), "lie in another file", id="external-data"
        ),
        pytest.param(diagonal_onnx(1.0)[:-30], "model.onnx", id="cut-off"),
        pytest.param(nan_onnx(), "answers NaN or infinity to a golden input", id="nan"),
        pytest.param(diagonal_onnx(0.0), "the same score to every golden input", id="constant"),
    ],
)
def test_a_model_that_no_node_should_run_is_refused(desk: Desk, data: bytes, problem: str) -> None:
    assert problem in desk.refused(model=desk.file("model.onnx", data))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        pytest.param({"y": np.eye(3)}, "has no array `inputs`, only y", id="no-inputs"),
        pytest.param({"inputs": np.eye(4)}, "shape [4, 4], it must be [1 to 64, 3]", id="shape"),
        pytest.param({"inputs": np.eye(3), "scores": np.eye(2)}, "[3, 3]: a row", id="scores"),
        pytest.param({"inputs": np.array(["a"])}, "an array holds no numbers", id="text"),
        pytest.param(
            {"inputs": 4 * np.eye(3), "scores": 5 * np.eye(3)},
            "differs by 1 from `scores`",
            id="of-another-model",
        ),
    ],
)
def test_a_golden_file_that_does_not_fit_is_refused(
    desk: Desk, arrays: dict[str, Any], problem: str
) -> None:
    golden = desk.npz("bad.npz", **arrays)
    assert problem in desk.refused("--golden", golden)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"no zip", id="no-zip"),
        pytest.param(b"PK\3\4 and no more", id="cut-off"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_damaged_golden_file_is_refused_in_words(desk: Desk, data: bytes) -> None:
    error = desk.refused("--golden", desk.file("bad.npz", data))
    assert "bad.npz: no npz with arrays of numbers" in error


def test_golden_inputs_may_be_called_x(desk: Desk) -> None:
    desk.publish("--golden", desk.npz("g.npz", x=4 * np.eye(3)))


def test_golden_scores_that_the_model_gives_are_taken(desk: Desk) -> None:
    desk.publish("--golden", desk.npz("g.npz", inputs=4 * np.eye(3), scores=4 * np.eye(3)))


@pytest.mark.parametrize("name", ["a/b", "..", "-x"])
def test_a_version_that_is_no_name_is_refused(desk: Desk, name: str) -> None:
    assert "is no name" in desk.refused(f"--version={name}", code=2)


def test_a_file_that_is_not_there_is_named(desk: Desk) -> None:
    assert "nothing.onnx" in desk.refused(model=desk.folder / "nothing.onnx")


# Looking


def test_versions_are_listed_with_what_they_are_in_the_rollout(desk: Desk) -> None:
    assert desk.output("list") == "no versions yet\n"
    desk.publish()
    desk.publish("--version", "b", model=desk.file("other.onnx", diagonal_onnx(3.0)))
    rows = [line.split() for line in desk.output("list").splitlines()[1:]]
    assert [row[0] for row in rows] == [f"{CHANNEL}/1", f"{CHANNEL}/b"]
    assert [each["rollout"] for each in desk.json("list")] == ["superseded", "running"]


def test_the_list_says_of_each_version_how_its_latest_rollout_ended(desk: Desk) -> None:
    desk.fleet("press-1")
    desk.publish()
    desk.complete()
    for gain, name in ((3.0, "2"), (5.0, "3")):
        desk.publish(model=desk.file(f"{name}.onnx", diagonal_onnx(gain)))
        desk.rollout.write(msgspec.structs.replace(desk.record, phase=Phase.ABORTED))
    desk.registry_only("4")
    found = {each["version"]: each["rollout"] for each in desk.json("list")}
    assert found == {"1": "stands", "2": "aborted", "3": "aborted", "4": ""}
    desk.output("offer", "2")
    found = {each["version"]: each["rollout"] for each in desk.json("list")}
    assert found == {"1": "completed", "2": "running", "3": "aborted", "4": ""}


@pytest.mark.parametrize("phase", [Phase.ABORTED, Phase.ROLLED_BACK, Phase.HALTED])
def test_what_was_taken_back_is_no_parent_unless_it_is_named(desk: Desk, phase: Phase) -> None:
    desk.fleet("press-1")
    desk.publish()
    desk.rollout.write(msgspec.structs.replace(desk.record, phase=phase))
    desk.publish(model=desk.file("2.onnx", diagonal_onnx(3.0)))
    assert desk.json("show", "2")["parents"] == []
    desk.complete()
    desk.publish(model=desk.file("3.onnx", diagonal_onnx(5.0)))
    assert desk.json("show", "3")["parents"] == [f"{CHANNEL}/2"]
    desk.rollout.write(msgspec.structs.replace(desk.record, phase=Phase.ABORTED))
    desk.publish(model=desk.file("4.onnx", diagonal_onnx(7.0)))
    assert desk.json("show", "4")["parents"] == [f"{CHANNEL}/2"]
    desk.rollout.write(msgspec.structs.replace(desk.record, phase=Phase.ABORTED))
    fifth = desk.file("5.onnx", diagonal_onnx(9.0))
    desk.publish("--parent", f"{CHANNEL}/4", model=fifth)
    assert desk.json("show", "5")["parents"] == [f"{CHANNEL}/4"]


def test_two_versions_are_compared(desk: Desk) -> None:
    desk.publish()
    desk.publish("--threshold", 0.5, "--notes", "bolder")
    found = desk.json("diff", f"{CHANNEL}/1", "2")
    assert found["files.fp32.calibration.threshold"] == [0.9, 0.5]
    assert found["notes"] == ["", "bolder"]
    assert "files.fp32.sha256" not in found
    assert "labels" not in found
    table = desk.output("diff", "1", "2")
    assert "bolder" in table
    assert "e+09" not in table  # an instant is said as people say it
    (line,) = [each for each in desk.output("show", "1").splitlines() if "threshold" in each]
    assert line.split() == ["files.fp32.calibration.threshold", "0.9"]


def test_of_several_files_of_one_precision_each_is_shown_and_compared(desk: Desk) -> None:
    second, third = (desk.file(f"{gain}.onnx", diagonal_onnx(gain)) for gain in (2.0, 3.0))
    desk.publish("--fp32", second)
    desk.publish("--fp32", third)
    lines = dict(line.split(maxsplit=1) for line in desk.output("show", "1").splitlines())
    assert lines["files.fp32.sha256"] == sha256(diagonal_onnx(1.0))[:12]
    assert lines["files.fp32-2.sha256"] == sha256(diagonal_onnx(2.0))[:12]
    found = desk.json("diff", "1", "2")
    assert found["files.fp32-2.sha256"] == [sha256(diagonal_onnx(gain)) for gain in (2.0, 3.0)]
    assert not any(name.startswith("files.fp32.") for name in found)


def test_urls_and_what_a_version_must_answer_are_shown_and_compared(desk: Desk) -> None:
    desk.publish()
    golden = desk.npz("other.npz", inputs=2 * np.eye(3))
    desk.publish("--url", "https://store.example", "--golden", golden)
    digest = sha256(diagonal_onnx(1.0))
    found = desk.json("diff", "1", "2")
    assert found["files.fp32.url"] == ["", f"https://store.example/{digest}"]
    eye = np.eye(3, dtype="<f4")
    digests = [sha256((gain * eye).tobytes()) for gain in (4, 2)]
    assert found["golden_inputs_sha256"] == digests
    assert found["files.fp32.golden_scores_sha256"] == digests
    assert f"https://store.example/{digest}" in desk.output("show", "2")


def test_what_is_not_there_or_not_clear_is_a_wrong_command_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    assert "there is no version 7" in desk.error("show", "7", code=2)
    assert f"one of {TIER2}, {CHANNEL}" in desk.error("pause", code=2)
    assert "there is no channel x; known are" in desk.error("list", "--channel", "x", code=2)
    assert "--pipeline and --tier" in desk.error("list", "--pipeline", "meter", code=2)
    for tier in (1, 2):
        desk.output("publish", desk.model, "--tier", tier, "--golden", desk.golden,
                    "--threshold", 0.9)  # fmt: skip
    assert "which 1? Fix: write CHANNEL/1" in desk.error("show", "1", code=2)
    monkeypatch.delenv("ESCALON_CLOUD", raising=False)
    assert main(["release", "list"]) == 2
    assert "which cloud? Fix: --config" in capsys.readouterr().err
    monkeypatch.setenv("ESCALON_CLOUD", str(desk.config))
    assert main(["release", "list"]) == 0


# Acting


def act(desk: Desk, command: str, code: int = 0) -> str:
    return desk.output(command, "--channel", CHANNEL, code=code)


def test_a_rollout_is_paused_promoted_halted_resumed(desk: Desk) -> None:
    desk.fleet("press-1", "press-2", "press-3")
    desk.publish()
    assert "version 1 is paused: no other wave begins\n" in act(desk, "pause")
    assert "version 1 paused: wave 1 of" in desk.output("status", "--channel", CHANNEL, code=3)
    assert "'promote' is not possible: the rollout is paused" in desk.error(
        "promote", "--channel", CHANNEL
    )
    act(desk, "resume")
    assert "promoted from wave 1" in act(desk, "promote")
    assert desk.record.share > 0
    act(desk, "halt")
    assert desk.record.phase.value == "halted"
    assert "resumed after a halt" in act(desk, "resume")


@pytest.mark.parametrize(
    ("command", "ways"), [("halt", "resume, roll back"), ("pause", "resume, halt, roll back")]
)
def test_a_rollout_that_a_person_stopped_is_not_replaced_and_the_files_are_not_kept(
    desk: Desk, command: str, ways: str
) -> None:
    desk.fleet("press-1")
    desk.publish()
    desk.complete()
    desk.publish(model=desk.file("other.onnx", diagonal_onnx(3.0)))
    act(desk, command)
    error = desk.refused(model=desk.file("third.onnx", diagonal_onnx(5.0)))
    assert f"not published: the rollout of version 2 is {desk.record.phase.value}" in error
    assert f"possible: {ways}\n" in error


def test_a_paused_first_version_is_halted_before_another_takes_its_place(desk: Desk) -> None:
    desk.fleet("press-1")
    desk.publish()
    act(desk, "pause")
    other = desk.file("other.onnx", diagonal_onnx(3.0))
    assert "possible: resume, halt\n" in desk.refused(model=other)
    error = desk.error("rollback", "--channel", CHANNEL)
    assert "possible: halt, then publish or offer a version that you trust" in error
    act(desk, "halt")
    desk.publish(model=other)
    assert (desk.record.version, desk.record.base) == ("2", "")


def test_what_nobody_could_take_first_is_not_kept(desk: Desk) -> None:
    desk.fleet("press-1", "press-2")
    desk.asleep()
    error = desk.refused()
    assert "not published: none of the 2 nodes of" in error
    assert not list(desk.state.rglob("blobs/*"))


def test_a_wrong_command_line_is_json_for_a_program_as_well(desk: Desk) -> None:
    assert "there is no version 9" in desk.json("show", "9", code=2)["error"]


def test_a_threshold_that_no_certainty_reaches_is_a_wrong_command_line(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["release", "publish", "m.onnx", "--golden", "g.npz", "--threshold", "90"])
    assert "90 is above 1" in capsys.readouterr().err


def test_a_refusal_is_json_for_a_program(desk: Desk) -> None:
    assert "has no rollout" in desk.json("pause", "--channel", CHANNEL, code=1)["error"]


def test_a_first_version_is_not_rolled_back_and_one_after_it_is(desk: Desk) -> None:
    desk.fleet("press-1")
    desk.publish()
    assert "no release from before version 1" in desk.error("rollback", "--channel", CHANNEL)
    desk.complete()
    desk.publish(model=desk.file("other.onnx", diagonal_onnx(3.0)))
    said = act(desk, "rollback")
    assert "version 2 is rolled back: version 1 is for every node again" in said
    assert desk.record.base == "1"


def test_what_has_nothing_to_go_back_to_is_told_a_way_out_that_is_open(desk: Desk) -> None:
    desk.publish()
    act(desk, "halt")
    error = desk.error("rollback", "--channel", CHANNEL)
    assert "possible: publish or offer a version that you trust" in error
    desk.output("offer", "1", "--channel", CHANNEL)


def test_a_record_of_a_release_is_enough_to_know_that_there_was_one(desk: Desk) -> None:
    desk.publish()
    desk.complete()  # and its manifest is lost
    other = desk.file("other.onnx", diagonal_onnx(3.0))
    assert "not published: no node of meter-tier1 is known" in desk.refused(model=other)


def test_an_older_version_is_offered_again(desk: Desk) -> None:
    desk.fleet("press-1")
    desk.publish()
    desk.complete()
    desk.publish(model=desk.file("other.onnx", diagonal_onnx(3.0)))
    desk.complete()
    assert f"{CHANNEL}/1: rollout" in desk.output("offer", "1")
    assert (desk.record.version, desk.record.base) == ("1", "2")


def test_what_failed_is_tried_again_on_demand(desk: Desk) -> None:
    desk.publish()
    assert "halt it first" in desk.error("retry", "--channel", CHANNEL)
    act(desk, "halt")
    first = desk.record
    act(desk, "retry")
    assert (desk.record.retry_epoch, desk.record.version) == (1, "1")
    assert desk.record.id != first.id


# Status


def test_status_says_in_words_and_by_its_code_how_a_rollout_stands(desk: Desk) -> None:
    assert f"{CHANNEL}: no version yet" in desk.output("status")
    desk.fleet("press-1", "press-2")
    desk.publish()
    said = desk.output("status", "--channel", CHANNEL, code=3)
    assert "version 1 running: wave 1 of 4: its manifest is not published yet" in said
    canary = desk.record.canaries[0].removeprefix("plant/")
    desk.report(canary, "ROLLED_BACK", "p95 latency rose")
    (found,) = desk.json("status", "--channel", CHANNEL, code=3)
    (line,) = [each for each in found["nodes"] if each["state"]]
    assert (line["node"], line["state"], line["reason"]) == (
        f"plant/{canary}", "ROLLED_BACK", "p95 latency rose",
    )  # fmt: skip
    act(desk, "halt")
    table = desk.output("status", "--channel", CHANNEL, code=4).splitlines()
    assert "version 1 halted" in table[0]
    assert table[1].split() == ["NODE", "STATE", "SINCE", "VERSION", "WAVE", "REASON"]
    assert any(row.startswith(f"plant/{canary}") and "p95 latency rose" in row for row in table)


def test_status_says_that_a_certificate_is_void_until_the_version_is_offered_anew(
    desk: Desk,
) -> None:
    desk.fleet("press-1")
    desk.publish()
    desk.complete()
    void = Void(reason="30% escalated where 19% were certified", since=1_700_000_000.0)
    desk.rollout.write(voided(desk.record, "1", void))
    assert "; the certificate of version 1 is void: 30% escalated" in desk.output("status")
    assert desk.json("status", "--channel", CHANNEL)[0]["void"] == void.reason
    act(desk, "retry")
    assert desk.json("status", "--channel", CHANNEL, code=3)[0]["void"] == ""
    assert "void" not in desk.output("status", code=3)


@pytest.mark.parametrize(
    ("age_s", "age", "said"),
    [
        pytest.param(0.0, 0, "", id="now"),
        pytest.param(140.0, 120, "", id="a-cloud-node-that-watches"),
        pytest.param(151.0, 120, "the fleet as it was 2 minutes ago", id="minutes"),
        pytest.param(7300.0, 7260, "the fleet as it was 2 hours ago", id="hours"),
        pytest.param(3 * 86_400.0, 259_200, "the fleet as it was 3 days ago", id="days"),
        pytest.param(-500.0, 0, "", id="clock-set-back"),
    ],
)
def test_status_says_how_old_what_it_shows_of_the_fleet_is(
    age_s: float, age: int, said: str
) -> None:
    taken_s = 1_700_000_000.0
    for known in ("", "1"):
        found = status(
            CHANNEL, None, RolloutPlan(), (), published=known, cloud=CloudSigns(True, taken_s),
            now_s=taken_s + age_s,
        )  # fmt: skip
        assert (found.fleet_taken, found.fleet_age) == (taken_s, age)
        assert (said in found.summary) if said else ("fleet" not in found.summary)


def test_status_of_a_cloud_that_went_down_says_so_and_calls_nobody_silent(desk: Desk) -> None:
    (found,) = desk.json("status", "--channel", CHANNEL)
    assert found["fleet_age"] is None
    desk.fleet("press-1", "press-2")
    desk.publish()
    went_s = time.time() - 86_400
    course = NodeCourse(wave=0, offered_s=went_s)
    down = published(desk.record, 1, went_s)
    desk.rollout.write(
        msgspec.structs.replace(down, seen_s=went_s, nodes={down.canaries[0]: course})
    )
    (found,) = desk.json("status", "--channel", CHANNEL, code=3)
    assert "wave 1 of 4: 0 of 1 committed" in found["summary"]
    assert "TIMED_OUT" not in found["summary"]
    assert found["fleet_age"] > 86_400
    assert "days ago" in found["summary"]
    assert "no cloud node runs on this folder here" in found["summary"]
    with NoticeFile(desk.state).running():
        (found,) = desk.json("status", "--channel", CHANNEL, code=3)
        assert "the cloud node runs, without an answer of its broker" in found["summary"]


def test_status_says_what_holds_the_cloud_node_up(desk: Desk) -> None:
    desk.publish()
    notice = NoticeFile(desk.state)
    notice.keep("", {CHANNEL: "version 2 waits: its blob is damaged"}, 1.0, 1.0)
    found = desk.output("status", "--channel", CHANNEL, code=3)
    assert "held up when the cloud node ran: version 2 waits: its blob is damaged" in found
    with NoticeFile(desk.state).running():
        (one, other) = sorted(desk.json("status", code=3), key=lambda each: each["channel"])
    assert (one["trouble"], other["trouble"]) == ("version 2 waits: its blob is damaged", "")
    assert "; held up: version 2 waits" in one["summary"]
    assert "held up" not in other["summary"]
    assert one["cloud_runs"] is True


@pytest.mark.parametrize("command", ["pause", "halt"])
def test_who_decides_is_told_when_it_takes_effect(desk: Desk, command: str) -> None:
    desk.fleet("press-1")
    assert desk.publish().endswith(
        "\nno cloud node runs on this folder here: it takes effect when one does\n"
    )
    with NoticeFile(desk.state).running():
        said = act(desk, command)
        assert "the cloud node has had no answer of its broker for" in said
        (desk.state / "fleet.json").write_bytes(b"{")  # what is decided is said all the same
        assert len(act(desk, "resume").splitlines()) == 1
        found = desk.json(command, "--channel", CHANNEL)
        assert (found["cloud_runs"], found["takes_effect"]) == (True, "now")
    found = desk.json("resume", "--channel", CHANNEL)
    assert found["cloud_runs"] is False
    assert found["takes_effect"].startswith("no cloud node runs")


# Until nodes have gone back


def rolled_back(desk: Desk) -> None:
    """Has version 2 be rolled back to 1, and that be published, with two nodes online of three."""
    desk.fleet("press-1", "press-2", "press-3")
    desk.publish()
    desk.complete()
    desk.publish(model=desk.file("other.onnx", diagonal_onnx(3.0)))
    desk.complete()
    desk.runs("2", "press-1", "press-2", "press-3")
    desk.observe((TOPICS.state("press-3"), b""))
    act(desk, "rollback")


def now(desk: Desk, code: int) -> Any:
    (found,) = desk.json("status", "--channel", CHANNEL, code=code)
    return found


def test_a_rollback_is_under_way_until_all_nodes_that_are_online_run_the_version_before(
    desk: Desk,
) -> None:
    rolled_back(desk)
    assert now(desk, 3)["settled"] is False
    desk.rollout.write(published(desk.record, 5, 1.0))
    assert "0 of 2 online nodes run version 1" in now(desk, 3)["summary"]
    desk.runs("1", "press-1")
    assert "1 of 2 online nodes run version 1" in now(desk, 3)["summary"]
    desk.runs("1", "press-2")
    found = now(desk, 4)
    assert found["settled"] is True
    assert "2 of 2 online nodes run version 1" in found["summary"]


def test_a_rollback_that_is_not_published_yet_is_under_way_though_nodes_run_the_version_before(
    desk: Desk,
) -> None:
    rolled_back(desk)
    desk.runs("1", "press-1", "press-2")
    found = now(desk, 3)
    assert found["settled"] is False
    assert "the cloud node has not published that yet" in found["summary"]


def test_who_tries_the_version_before_has_not_gone_back_yet(desk: Desk) -> None:
    rolled_back(desk)
    desk.rollout.write(published(desk.record, 5, 1.0))
    desk.runs("1", "press-1", "press-2")
    desk.observe(said_of_the_way_back(desk, "press-2", "PROBATION"))
    assert now(desk, 3)["settled"] is False
    desk.observe(said_of_the_way_back(desk, "press-2", "COMMITTED"))
    assert now(desk, 4)["settled"] is True


def test_who_could_not_go_back_is_named_and_not_waited_for(desk: Desk) -> None:
    rolled_back(desk)
    desk.rollout.write(published(desk.record, 5, 1.0))
    desk.runs("1", "press-1")
    desk.observe(said_of_the_way_back(desk, "press-2", "REJECTED"))
    found = now(desk, 4)
    assert found["settled"] is False
    assert (
        "1 of 2 online nodes run version 1; without it: plant/press-2 (REJECTED)"
        in (found["summary"])
    )


def test_where_all_nodes_are_away_a_rollback_is_under_way(desk: Desk) -> None:
    rolled_back(desk)
    desk.rollout.write(published(desk.record, 5, 1.0))
    desk.asleep()
    assert now(desk, 3)["settled"] is False


def test_a_rollback_is_watched_until_nodes_have_gone_back(desk: Desk) -> None:
    rolled_back(desk)
    desk.rollout.write(published(desk.record, 5, 1.0))
    scope = Scope(ConfigFile(desk.config).parse(CloudConfig, {}), CHANNEL)
    nodes = iter(["press-1", "press-2"])
    output = io.StringIO()
    code = watch(
        lambda: statuses(scope), output, as_json=True, pause=lambda _: desk.runs("1", next(nodes))
    )
    assert code == 4
    assert [json.loads(line)[0]["settled"] for line in output.getvalue().splitlines()] == [
        False, False, True,
    ]  # fmt: skip
    assert next(nodes, None) is None


def said_of_the_way_back(desk: Desk, node: str, state: str) -> tuple[str, bytes]:
    """Returns a node's report on what the rollback offers: topic and payload."""
    report = UpdateReport(
        node=node, channel=CHANNEL, seq=5, version="1", state=state, reason="", since=1.0,
        steps=[], rollout=f"{desk.record.id}{BACK}",
    )  # fmt: skip
    return TOPICS.updates(node, CHANNEL), to_json(report)


def test_a_complete_rollout_is_settled_once_all_that_are_online_run_it(desk: Desk) -> None:
    desk.fleet("press-1", "press-2")
    desk.publish()
    desk.complete()
    desk.runs("1", "press-1")
    assert now(desk, 0)["settled"] is False
    desk.runs("1", "press-2")
    assert now(desk, 0)["settled"] is True


class Terminal(io.StringIO):
    """Takes what is drawn."""

    def isatty(self) -> bool:
        return True


def watched(desk: Desk, output: io.StringIO, **how: bool) -> tuple[int, int]:
    """Watches a rollout that is completed at the second look; returns exit code and pauses."""
    desk.publish()
    scope = Scope(ConfigFile(desk.config).parse(CloudConfig, {}), CHANNEL)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            desk.complete()

    code = watch(lambda: statuses(scope), output, pause=pause, **how)
    return code, len(pauses)


def test_status_is_watched_until_the_rollout_has_ended_and_says_what_has_changed(
    desk: Desk,
) -> None:
    output = io.StringIO()
    assert watched(desk, output) == (0, 2)
    first, second = output.getvalue().splitlines()
    assert "version 1 running" in first
    assert "version 1 completed" in second


@pytest.mark.parametrize("phases", [("halted", "running"), ("running", "halted")])
def test_a_rollout_that_has_ended_hides_none_that_goes_on(
    desk: Desk, phases: tuple[str, str]
) -> None:
    desk.fleet("press-1")
    desk.publish()
    scope = Scope(ConfigFile(desk.config).parse(CloudConfig, {}), CHANNEL)
    (one,) = statuses(scope)
    found = [replace_phase(one, f"{CHANNEL}-{number}", each) for number, each in enumerate(phases)]
    looks = iter([found, [replace_phase(each, each.channel, "completed") for each in found]])
    pauses: list[float] = []
    assert watch(lambda: next(looks), io.StringIO(), as_json=True, pause=pauses.append) == 0
    assert len(pauses) == 1


def replace_phase(status: ChannelStatus, channel: str, phase: str) -> ChannelStatus:
    """Returns a status of another channel, in another phase, whose manifest is out."""
    return msgspec.structs.replace(status, channel=channel, phase=phase, seq=1)


def test_a_watched_status_is_a_line_of_json_a_change_for_a_program(desk: Desk) -> None:
    output = Terminal()
    assert watched(desk, output, as_json=True) == (0, 2)
    phases = [json.loads(line)[0]["phase"] for line in output.getvalue().splitlines()]
    assert phases == ["running", "completed"]


def test_on_a_terminal_the_table_is_drawn_in_its_place(desk: Desk) -> None:
    desk.fleet("press-1")
    output = Terminal()
    assert watched(desk, output) == (0, 2)
    assert output.getvalue().count("plant/press-1") >= 3
    assert "\x1b[" in output.getvalue()


def test_status_with_watch_ends_at_once_where_nothing_is_under_way(desk: Desk) -> None:
    assert "no version yet" in desk.output("status", "--watch")


def test_a_damaged_record_is_said_and_left_where_it_is(desk: Desk) -> None:
    desk.publish()
    path = desk.state / "rollouts" / f"{CHANNEL}.json"
    path.write_bytes(b"{")
    assert "is no record of a rollout" in desk.error("status")
    assert path.read_bytes() == b"{"


def test_a_key_is_not_needed_by_who_decides(desk: Desk) -> None:
    (desk.folder / "release.key").unlink()
    assert "rollout" in desk.publish()
