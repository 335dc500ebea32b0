"""A model that nobody should have to run comes as a release, and nothing of the node changes."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import onnx
import pytest

from shared.releases import course
from shared.releases.machine import State
from shared.releases.manifest import Manifest, sign_manifest
from shared.releases.record import Quarantine
from shared.releases.smoke import SmokeTest
from shared.releases.trial_process import SmokeLimits
from tests.builders import diagonal_onnx, file_of, nan_onnx
from tests.fakes import wait_until
from tests.hostile_models import (
    adding,
    crashes_on_x86,
    endless,
    external_tensor,
    fails_at_ones,
    importing,
    memory_eater,
    nan_at_ones,
    nested,
    with_operator,
)
from tests.onnx_models import FLOAT
from tests.unit.conftest import StationMaker
from tests.update_station import WHOLE_COURSE, Station, model_of, release

LIMITS = SmokeLimits(timeout_s=30.0, cpu_s=2, memory_bytes=2**29)
FOREIGN = "'evil', and only '', 'ai.onnx', 'ai.onnx.ml', 'com.microsoft' may be used"
UP_TO_SMOKE = WHOLE_COURSE[: WHOLE_COURSE.index("SMOKE") + 1]
REFUSED = [*UP_TO_SMOKE, "FAILED_NO_STATE_CHANGE"]

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="other systems bound no memory")
x86_only = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="only x86 traps at this division"
)


class Hostile(NamedTuple):
    """A model, and the pattern of all that the report may say of it."""

    data: bytes
    reason: str
    marks: tuple[pytest.MarkDecorator, ...] = ()


def refused(data: bytes, reason: str) -> Hostile:
    """Returns a model that never comes near the runtime."""
    return Hostile(data, re.escape(f"this node does not load it: {reason}"))


def huge() -> bytes:
    """Returns a small file with a tensor that says it has 4 TiB."""
    tensor = onnx.TensorProto(name="w", data_type=FLOAT, dims=[2**20, 2**20])
    return bytes(adding(tensor).SerializeToString())


MODELS: Mapping[str, Hostile] = {
    "truncated": refused(
        model_of(2)[:-30], "not an ONNX file, or a part of one: it ends within a field"
    ),
    "huge": refused(
        huge(), "it holds 4,398,046,511,104 bytes in a tensor, more than 1,073,741,824"
    ),
    "deep": refused(nested(17), "it holds 17 levels of subgraphs, more than 16"),
    "external-data": refused(
        bytes(adding(external_tensor()).SerializeToString()),
        "a tensor's numbers lie in another file. "
        "Fix: save the model as one file (onnx.save without save_as_external_data)",
    ),
    "custom-operator": refused(
        with_operator("Frob", "evil"), f"operator 'Frob' is of domain {FOREIGN}"
    ),
    "custom-import": refused(importing("evil"), f"it imports operators of domain {FOREIGN}"),
    "loads-and-crashes": Hostile(
        crashes_on_x86(), r"the model crashed the process that tried it \(signal 8\)", (x86_only,)
    ),
    "loads-and-fails": Hostile(fails_at_ones(), ".*it cannot run: .*out of data bounds.*"),
    "hangs": Hostile(endless(), "the model took more than 2 s of processor time"),
    "eats-memory": Hostile(
        memory_eater(), ".*it cannot run: .*Failed to allocate memory.*", (linux_only,)
    ),
    "answers-nan": Hostile(nan_onnx(), "the model answers NaN or infinity to a golden input"),
    "answers-nan-to-golden-inputs": Hostile(
        nan_at_ones(), "the model answers NaN or infinity to a golden input"
    ),
    "answers-otherwise": Hostile(
        diagonal_onnx(9.0), re.escape("a score differs by 7 from the golden one, more than 0.001")
    ),
}
CASES = [pytest.param(each, id=name, marks=each.marks) for name, each in MODELS.items()]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the child of a trial little time and memory."""
    monkeypatch.setattr(course, "SmokeTest", partial(SmokeTest, limits=LIMITS))


def offered(station: Station, data: bytes, seq: int = 2) -> Manifest:
    """Publishes bytes as release 2, under a seq; returns the manifest."""
    described = release(2, data, seq=seq)
    station.publish(described, data)
    return described


def on_disk(station: Station) -> dict[str, bytes]:
    """Returns every file of the node by its name, and what the models' files hold."""
    files = [path for path in station.folder.rglob("*") if path.is_file()]
    models = station.folder / "models"
    return {
        str(path.relative_to(station.folder)): path.read_bytes()
        if path.is_relative_to(models) else b""
        for path in files
    }  # fmt: skip


def answer_until_it_failed(station: Station) -> int:
    """Asks what serves at every turn; returns how often while a child tried the model."""
    asked = 0

    def failed() -> bool:
        nonlocal asked
        station.turn()
        if station.state == (State.OFFERED, 2):
            station.now_s += 1.0
        assert (station.version, station.answers_rightly) == ("1", True)
        asked += station.state == (State.SMOKE, 2)
        return station.state == (State.FAILED_NO_STATE_CHANGE, 2)

    wait_until(failed, "the trial ends")
    return asked


def assert_as_on_1(station: Station) -> None:
    """Looks that nothing but release 1 serves, or would serve after a restart."""
    assert (station.version, station.answers_rightly) == ("1", True)
    assert station.active_envelope == sign_manifest(release(1), [station.key])
    assert station.record.pending is None
    assert not station.updater.busy


@pytest.mark.parametrize("hostile", CASES)
def test_a_hostile_model_is_named_and_quarantined_and_the_node_is_as_it_was(
    on_1: Station, hostile: Hostile
) -> None:
    before = on_disk(on_1)
    described = offered(on_1, hostile.data)
    assert answer_until_it_failed(on_1) > 1
    assert re.fullmatch(hostile.reason, on_1.reports[-1].reason)
    assert [each.state for each in on_1.reports if each.seq == 2] == REFUSED
    assert on_1.record.quarantined == (Quarantine(file_of(described).sha256, 0),)
    on_1.settle()
    assert_as_on_1(on_1)
    assert on_disk(on_1) == before


def test_a_hostile_model_is_not_tried_again_under_another_number_nor_in_the_next_life(
    make_on_1: StationMaker,
) -> None:
    station, data = make_on_1(), MODELS["answers-nan"].data
    station.start()
    described = offered(station, data)
    answer_until_it_failed(station)
    station.settle()
    before = on_disk(station)
    reason = (
        f"{file_of(described).sha256} has failed on this node before. "
        "Fix: raise retry_epoch to have it tried again"
    )
    for seq in (3, 4):
        offered(station, data, seq)
        station.settle()
        assert (station.state, station.reports[-1].reason) == ((State.REJECTED, seq), reason)
        station.settle()
        assert_as_on_1(station)
        assert on_disk(station) == before
        station = make_on_1()
        station.start()


def test_a_model_that_hangs_is_given_up_at_its_time_out_and_the_node_is_as_it_was(
    on_1: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = SmokeLimits(timeout_s=30.0)
    monkeypatch.setattr(course, "SmokeTest", partial(SmokeTest, limits=patient))
    before = on_disk(on_1)
    offered(on_1, endless())
    on_1.run_to(State.SMOKE, 2)
    on_1.now_s += 29.9
    on_1.turn()
    assert on_1.state == (State.SMOKE, 2)
    assert (on_1.version, on_1.answers_rightly) == ("1", True)
    on_1.now_s += 0.1
    answer_until_it_failed(on_1)
    assert on_1.reports[-1].reason == "the model did not answer within 30 s"
    on_1.settle()
    assert_as_on_1(on_1)
    assert on_disk(on_1) == before


def test_after_hostile_models_in_a_row_a_good_one_is_taken(on_1: Station) -> None:
    names = {2: "truncated", 3: "loads-and-fails", 4: "answers-nan"}
    for seq, name in names.items():
        data = MODELS[name].data
        on_1.publish(release(seq, data), data)
        on_1.run_to(State.FAILED_NO_STATE_CHANGE, seq)
        assert (on_1.version, on_1.answers_rightly) == ("1", True)
    on_1.publish(release(5), model_of(5))
    on_1.commit(5)
    assert (on_1.version, on_1.answers_rightly) == ("5", True)
    assert len(on_1.record.quarantined) == len(names)
