"""``escalon labels``: what people are asked, what they say, and what is refused with its line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cloud.config import CloudConfig
from cloud.opening import make_store
from cloud.store import Arrived
from escalon.cli import main
from shared.config_file import ConfigFile
from shared.messages import Telemetry, TelemetryRecord, Tensor
from tests.builders import record
from tests.cloud_desk import Desk, Said
from tests.store.desk import NOON_S, scored


class LabelDesk(Desk):
    """A person at the command line, beside a store with samples."""

    def ask(self, *arguments: object, code: int = 0) -> str:
        self.said.readouterr()
        found = main(["labels", *map(str, arguments), "--config", str(self.config)])
        printed = self.said.readouterr()
        assert found == code, printed.err
        return printed.err if code else printed.out

    def send(self, *records: TelemetryRecord) -> None:
        store = make_store(ConfigFile(self.config).parse(CloudConfig, {}))
        store.open()
        message = Telemetry(1, "hub", f"batch-{records[0].sample.id}", records, ())
        store.add([Arrived("plant", message)], NOON_S)
        store.close()

    def csv(self, *lines: str) -> Path:
        return self.file("labels.csv", "\n".join(lines).encode())


@pytest.fixture
def desk(tmp_path: Path, capsys: Said) -> LabelDesk:
    return LabelDesk(tmp_path, capsys)


def test_what_tier2_is_unsure_of_is_asked_labelled_and_exported(desk: LabelDesk) -> None:
    desk.send(scored(1, [0.5, 0.1, 0.4]), scored(2, [0.0, 0.51, 0.49]), record(3))
    today, inputs, out = (desk.folder / name for name in ("today.csv", "in.npz", "out.csv"))
    shown = desk.ask("queue", "--to", today, "--inputs", inputs)
    assert shown.index("id-2") < shown.index("id-1")
    assert "one 51%, two 49%" in shown
    assert "id-3" not in shown
    with np.load(inputs) as found:
        assert found["inputs"][:, 0].tolist() == [2.0, 1.0]
        assert found["id"].tolist() == ["id-2", "id-1"]
    with today.open() as file:
        rows = list(csv.DictReader(file))
    rows[0]["label"] = "two"  # the other one stays open
    with today.open("w") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    done = desk.ask("import", today, "--by", "ada")
    assert done == (
        "meter: 1 samples labelled, 0 labels wait for their samples, "
        "0 were there or are older than what is\n"
    )
    assert "id-2" not in desk.ask("queue")
    desk.ask("export", "--to", out)
    assert out.read_text().splitlines()[0] == "site,sensor,id,label,by,timestamp"
    assert out.read_text().splitlines()[1].startswith("plant,cam-01,id-2,two,ada,")
    assert desk.ask("export") == out.read_text()
    again = json.loads(desk.ask("import", out, "--json"))
    assert again == {"joined": 0, "waiting": 0, "repeated": 1, "refused": 0, "dropped": 0}
    (kept,) = json.loads(desk.ask("export", "--json"))
    assert (kept["id"], kept["label"], kept["by"]) == ("id-2", "two", "ada")


def test_a_queue_is_json_for_a_program(desk: LabelDesk) -> None:
    assert json.loads(desk.ask("queue", "--json")) == []
    assert desk.ask("queue") == "meter: nothing is to be labelled today\n"
    desk.send(scored(1, [0.5, 0.1, 0.4]))
    (asked,) = json.loads(desk.ask("queue", "--json"))
    assert asked["guesses"] == [["zero", 0.5], ["two", 0.4]]


def test_an_input_of_another_shape_is_asked_about_and_only_its_input_is_left_out(
    desk: LabelDesk,
) -> None:
    wide = Tensor.of(np.zeros(5, np.float32))
    desk.send(scored(1, [0.5, 0.1, 0.4]), scored(2, [0.0, 0.51, 0.49], input=wide))
    inputs = desk.folder / "in.npz"
    shown = desk.ask("queue", "--inputs", inputs)
    assert "id-1" in shown
    assert "id-2" in shown
    assert f"1 of them have inputs of another shape, which are not in {inputs}\n" in shown
    with np.load(inputs) as found:
        assert found["id"].tolist() == ["id-1"]


def test_the_daily_limit_is_the_configured_one(desk: LabelDesk) -> None:
    desk.write_config(labelling={"daily_limit": 2})
    desk.send(*(scored(number, [0.5, 0.4, 0.1]) for number in range(5)))
    assert len(json.loads(desk.ask("queue", "--json"))) == 2


def test_labels_may_come_before_their_samples(desk: LabelDesk) -> None:
    path = desk.csv("sensor,id,label", "cam-01,id-9,one")
    done = desk.ask("import", path, "--site", "plant", "--pipeline", "meter")
    assert "0 samples labelled, 1 labels wait" in done
    desk.send(record(9))
    (kept,) = json.loads(desk.ask("export", "--json"))
    assert kept["number"] is not None


@pytest.mark.parametrize("options", [[], ["--json"], ["--to", "labels.csv"]], ids=" ".join)
def test_an_export_makes_no_store_where_nothing_is_recorded(
    desk: LabelDesk, options: list[str]
) -> None:
    before = set(desk.folder.rglob("*"))
    error = desk.ask("export", *options, code=1)
    assert error.startswith("escalon: nothing is recorded yet: there is no ")
    assert set(desk.folder.rglob("*")) == before


def test_a_file_with_a_wrong_line_is_refused_whole_with_every_line(desk: LabelDesk) -> None:
    path = desk.csv(
        "site,sensor,id,label,timestamp",
        "plant,cam-01,id-1,one,",
        "plant,cam-01,id-2,four,",
        "plant,cam/01,id-3,one,",
        "plant,cam-01,,one,",
        ",cam-01,id-4,one,",
        "plant,cam-01,id-5,one,noon",
    )
    error = desk.ask("import", path, code=1)
    assert error.splitlines() == [
        f"escalon: {path}:3: label 'four' is none of zero, one, two",
        f"{path}:4: sensor 'cam/01' is no name",
        f"{path}:5: id has 0 characters; 1 to 134 are due, no NUL",
        f"{path}:6: site '' is no name",
        f"{path}:7: timestamp 'noon' is neither seconds since 1970 nor RFC 3339",
        "nothing was imported",
    ]
    assert json.loads(desk.ask("export", "--json")) == []


def test_of_many_wrong_lines_some_are_shown_and_all_are_counted(desk: LabelDesk) -> None:
    lines = [f"plant,cam-01,id-{number},four" for number in range(50)]
    error = desk.ask("import", desk.csv("site,sensor,id,label", *lines), code=1)
    assert "and 30 lines more" in error
    assert len(error.splitlines()) == 22


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("sensor,id,label", "has no column site"),
        ("site,sensor,label", "has no column id"),
        ("site,sensor,id,label,class", "has a column 'class'"),
        ("", "has no column site"),
    ],
)
def test_a_file_with_other_columns_is_refused(desk: LabelDesk, head: str, problem: str) -> None:
    error = desk.ask("import", desk.csv(head, "a,b,c,one"), code=1)
    assert problem in error
    assert "site, sensor, id, label, by, timestamp" in error


def test_a_file_that_is_not_there_is_named(desk: LabelDesk) -> None:
    error = desk.ask("import", desk.folder / "none.csv", code=1)
    assert "none.csv: No such file or directory" in error


def test_an_unclear_command_line_is_said(desk: LabelDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no pipeline pump; known are meter" in desk.ask("queue", "--pipeline", "pump", code=2)
    assert main(["labels", "queue"]) == 2
    assert "which cloud?" in desk.said.readouterr().err
