"""The benchmarks' own arithmetic: packets, bookkeeping, ratios and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench import nodes
from bench.__main__ import SCENARIOS
from bench.arguments import parse_arguments
from bench.errors import BenchError
from bench.ledger import Ledger
from bench.load import acknowledgements
from bench.loops import Latency, Meter, difference
from bench.models import SMALL
from bench.packets import (
    MalformedStreamError,
    frames,
    packet,
    publish_head,
    remaining_length,
    text,
)
from bench.report import (
    BEGIN,
    END,
    Report,
    as_json,
    as_text,
    number,
    write_json,
    write_markdown,
)
from bench.rows import BY_KEY, TARGETS, Row, Target, not_measured, ratios, row
from bench.samples import VECTORS, Feed, json_feed, packet_id, raw_feed
from bench.scenario import Figure
from bench.swap import Run
from escalon.cli import main as command_line
from shared.errors import StorageError

TOPICS = ("bench/site/p/samples/s0", "bench/site/p/samples/s1")
MACHINE = {
    "cpu": "a CPU",
    "cpus": "2",
    "system": "Linux 6",
    "python": "3.11",
    "broker": "Mosquitto 2",
    "paho-mqtt": "2.2.0",
    "load_average": "0.10",
}


# The course of a release


@pytest.mark.parametrize("committed_s", [9.9, 15.1], ids=["before", "after"])
def test_a_release_that_is_committed_outside_the_measurement_spoils_it(committed_s: float) -> None:
    run = Run(Latency(1000.0, 1.0, 2.0, 5000), begins_s=10.0, ends_s=15.0)
    run.check_within(1, 13.0)
    with pytest.raises(BenchError, match="release 1 was committed"):
        run.check_within(1, committed_s)


# Packets


@pytest.mark.parametrize(
    ("size", "encoded"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2_097_151, "ffff7f"),
        (2_097_152, "80808001"),
        (268_435_455, "ffffff7f"),
    ],
    ids=str,
)
def test_a_length_is_encoded_as_the_standards_table_says(size: int, encoded: str) -> None:
    assert remaining_length(size).hex() == encoded


@pytest.mark.parametrize("size", [-1, 268_435_456])
def test_a_length_that_mqtt_cannot_say_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="a packet has 0 to 268435455 bytes"):
        remaining_length(size)


@given(
    bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=8),
    cuts=st.lists(st.integers(1, 50), min_size=1, max_size=5),
)
def test_packets_are_found_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(packet(0x30, body) for body in bodies)
    buffer, found, at, turn = bytearray(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        buffer += stream[at : at + size]
        whole, taken = frames(buffer)
        found += [bytes(buffer[frame.body : frame.end]) for frame in whole]
        del buffer[:taken]
        at, turn = at + size, turn + 1
    assert found == bodies
    assert not buffer


def test_a_length_without_an_end_is_no_mqtt() -> None:
    with pytest.raises(MalformedStreamError, match="more than four bytes"):
        frames(b"\x30\xff\xff\xff\xff\x01")


def test_only_acknowledged_deliveries_are_acknowledged_by_their_identifier() -> None:
    at_qos_1 = publish_head("a/topic", 1, 2) + b"\x12\x34" + b"hi"
    stream = at_qos_1 + publish_head("a/topic", 0, 2) + b"hi"
    found, size = frames(stream)
    assert size == len(stream)
    assert list(acknowledgements(stream, found)) == [b"\x40\x02\x12\x34"]


# Samples


def payloads(feed: Feed, first: int, count: int) -> list[bytes]:
    """Returns what the packets carry, read by the standard's rules."""
    stream = feed.packets(first, count)
    found, size = frames(stream)
    assert size == len(stream)
    read = []
    for frame in found:
        topic_bytes = int.from_bytes(stream[frame.body : frame.body + 2], "big")
        identifier_bytes = 2 if frame.first & 0x06 else 0
        read.append(stream[frame.body + 2 + topic_bytes + identifier_bytes : frame.end])
    return read


@pytest.mark.parametrize("qos", [0, 1])
def test_json_samples_carry_their_number_and_as_many_features_as_asked(qos: int) -> None:
    first = VECTORS - 2  # across the end of the vectors, where they begin anew
    samples = [json.loads(payload) for payload in payloads(json_feed(TOPICS, 64, qos), first, 5)]
    assert [int(sample["id"]) for sample in samples] == list(range(first, first + 5))
    assert {len(sample["features"]) for sample in samples} == {64}
    assert len({str(sample["features"]) for sample in samples}) == 5


def test_sensors_take_turns() -> None:
    stream = json_feed(TOPICS, 4, 1).packets(0, 4)
    assert [stream.count(text(topic)) for topic in TOPICS] == [2, 2]


def test_a_raw_pack_is_as_many_little_endian_floats_as_its_samples_have() -> None:
    (payload,) = payloads(raw_feed(TOPICS, 64, 32, 1), 7, 1)
    pack = np.frombuffer(payload, "<f4")
    assert pack.size == 32 * 64
    assert np.isfinite(pack).all()


def test_packet_identifiers_run_from_1_to_65535_and_begin_anew() -> None:
    numbers = (0, 65_534, 65_535)
    assert [packet_id(number).hex() for number in numbers] == ["0001", "ffff", "0001"]


# Bookkeeping


def ledger_of(*numbers: int) -> Ledger:
    """Returns a ledger of messages that were sent at second 1, 2, …"""
    ledger = Ledger()
    for second, sent in enumerate(numbers, 1):
        ledger.note_sent(sent, packet_id(sent), float(second))
    return ledger


def puback(sent: int) -> bytes:
    return b"\x40\x02" + packet_id(sent)


def answer(sent: int, spaced: str = "") -> bytes:
    return b'{"id":%b"%010d","prediction":"idle"}' % (spaced.encode(), sent)


def test_a_sample_is_lost_if_the_broker_took_it_and_nobody_answered() -> None:
    ledger = ledger_of(10, 11, 12)
    ledger.note_acknowledgements(puback(10) + puback(11))
    ledger.note_answers(answer(10) + answer(12), 5.0)
    assert ledger.acknowledged == {10, 11}
    assert ledger.lost == 1


def test_a_second_answer_is_a_duplicate_and_a_strangers_is_nothing() -> None:
    ledger = ledger_of(10)
    ledger.note_answers(answer(10), 5.0)
    ledger.note_answers(answer(10) + answer(999), 6.0)
    assert ledger.duplicates == 1
    assert ledger.answered_s == {10: 5.0}


@pytest.mark.parametrize("spaced", ["", " "], ids=["compact", "spaced"])
def test_latency_runs_from_send_to_first_answer_and_leaves_the_warm_up_out(spaced: str) -> None:
    ledger = ledger_of(10, 11)
    ledger.note_answers(answer(10, spaced) + answer(11, spaced), 2.5)
    assert list(ledger.latencies_ms(from_s=2.0)) == [500.0]


def test_a_packet_identifier_that_is_used_again_names_the_later_message() -> None:
    ledger = ledger_of(0)
    ledger.note_acknowledgements(puback(0))
    ledger.note_sent(65_535, packet_id(65_535), 2.0)
    ledger.note_acknowledgements(puback(0))
    assert ledger.acknowledged == {0, 65_535}


def test_saturation_is_what_happened_between_two_readings() -> None:
    before = Meter(10.0, 1000, 1.0, 2.0, 3.0)
    after = Meter(12.0, 5000, 1.4, 2.2, 3.1)
    run = difference(before, after)
    assert run.messages_per_s == 2000
    assert run.cpu_us == pytest.approx(100)
    assert run.broker_us == pytest.approx(50)
    assert run.generator_us == pytest.approx(25)


# Rows


def test_a_value_is_the_median_and_its_spread_the_extremes() -> None:
    result = row(BY_KEY["throughput_vs_naive"], [3.5, 2.5, 3.1])
    assert (result.value, result.low, result.high, result.ok) == (3.1, 2.5, 3.5, True)
    assert result.measurements == [3.5, 2.5, 3.1]


@pytest.mark.parametrize(
    ("key", "value", "ok"),
    [
        ("throughput_vs_naive", 3.0, True),
        ("throughput_vs_naive", 2.99, False),
        ("cpu_vs_naive", 0.33, True),
        ("cpu_vs_naive", 0.34, False),
        ("lost", 0, True),
        ("lost", 1, False),
    ],
)
def test_a_target_holds_up_to_its_very_number(key: str, value: float, ok: bool) -> None:
    assert row(BY_KEY[key], [value]).ok is ok


def test_one_loss_among_many_kills_is_not_voted_down() -> None:
    result = row(BY_KEY["lost"], [0, 0, 4])
    assert (result.value, result.ok) == (4, False)


def test_one_shape_that_is_slow_is_not_made_up_for_by_others() -> None:
    result = row(BY_KEY["small_speed_32"], [3.5, 1.0, 3.1, 1.8])
    assert (result.value, result.ok) == (1.0, False)
    assert row(BY_KEY["small_size"], [0.25, 0.32]).value == 0.32


def test_what_could_not_be_measured_is_not_ok_and_says_why() -> None:
    result = not_measured(BY_KEY["rss_mib"], "it does not start")
    assert (result.value, result.ok, result.note) == (None, False, "it does not start")


def test_ratios_are_taken_pair_by_pair() -> None:
    assert ratios([6.0, 9.0], [2.0, 3.0]) == [3.0, 3.0]
    with pytest.raises(ValueError, match="argument 2"):
        ratios([6.0, 9.0], [2.0])


def test_every_row_is_measured_by_one_scenario() -> None:
    measured = [key for scenario in SCENARIOS for key in scenario.keys]
    assert sorted(measured) == sorted(target.key for target in TARGETS)


# Reports


def report(*rows: Row) -> Report:
    figures = [
        Figure("saturated", "naive", {"k messages/s": 4.5}),
        Figure("saturated", "ours", {"k messages/s": 15.5}),
    ]
    return Report(MACHINE, list(rows), figures)


HIT = row(BY_KEY["throughput_vs_naive"], [3.5, 2.5, 3.1])
MISS = row(BY_KEY["lost"], [2], "1 kill")


def test_the_json_has_every_row_under_its_key() -> None:
    read: dict[str, Any] = json.loads(as_json(report(HIT, MISS)))
    assert {"throughput_vs_naive", "lost", "machine", "figures"} == read.keys()
    found = read["throughput_vs_naive"]
    expected = {"target": 3.0, "value": 3.1, "low": 2.5, "high": 3.5, "ok": True, "unit": "ratio"}
    assert expected.items() <= found.items()
    assert found["comparator"] == ">="
    assert read["lost"]["ok"] is False


def test_the_table_shows_hit_and_miss() -> None:
    lines = as_text(report(HIT, MISS)).splitlines()
    assert any(line.startswith("✓  throughput_vs_naive  3.10") for line in lines)
    assert any(line.startswith("✗  lost") for line in lines)
    assert "lost: 1 kill" in lines


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (0, "0"), (3.0, "3"), (0.02521, "0.0252"), (3.14159, "3.14"), (4409.5, "4410")],
)
def test_numbers_are_shown_with_three_digits_that_count(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_the_tables_replace_those_of_a_document_and_nothing_else(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(f"# Before\n\n{BEGIN}\nold figures\n{END}\n\nAfter.\n")
    write_markdown(document, report(HIT))
    write_markdown(document, report(HIT, MISS))
    written = document.read_text()
    assert written.startswith(f"# Before\n\n{BEGIN}\n")
    assert written.endswith(f"{END}\n\nAfter.\n")
    assert "old figures" not in written
    assert written.count("| ✓ | throughput_vs_naive | 3.10 |") == 1
    assert written.count("| ✗ | lost |") == 1


def test_a_document_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text("nothing of ours\n")
    with pytest.raises(BenchError, match="has no lines"):
        write_markdown(document, report(HIT))
    assert document.read_text() == "nothing of ours\n"


def test_a_new_file_gets_marks_of_its_own(tmp_path: Path) -> None:
    document = tmp_path / "new.md"
    write_markdown(document, report(HIT))
    write_markdown(document, report(MISS))
    assert document.read_text().count(BEGIN) == 1


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*taken"):
        write_json(tmp_path / "taken", report(HIT))


# The command line


def test_all_rows_are_measured_unless_some_are_named() -> None:
    assert parse_arguments([]).only == tuple(BY_KEY)
    assert parse_arguments(["--only", "lost,start_s,lost"]).only == ("lost", "start_s")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "speed"], "no row speed; rows: throughput_vs_naive"),
        (["--runs", "0"], "0 is not a number from 1 to 50"),
        (["--runs", "many"], "many is not a number from 1 to 50"),
        (["--json", "nowhere/r.json"], "nowhere/r.json is no file in an existing folder"),
    ],
    ids=["unknown-key", "no-runs", "no-number", "no-folder"],
)
def test_a_wrong_argument_is_refused_with_what_is_right(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


# Our nodes


@pytest.mark.parametrize(
    ("role", "pipeline"),
    [
        ("tier1", nodes.answering(Path("m.onnx"), 64, 1, 0)),
        ("tier1", nodes.answering(Path("m.onnx"), 64, 0, 0)),
        ("tier1", nodes.answering(Path("m.onnx"), 64, 1, 32)),
        ("tier1", nodes.asking(Path("m.onnx"), 64)),
        ("tier2", nodes.deciding(Path("m.onnx"), 64)),
    ],
    ids=["at-least-once", "at-most-once", "packs", "asking", "deciding"],
)
def test_the_yaml_of_our_nodes_is_valid(
    role: str, pipeline: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "m.onnx").write_bytes(b"a model")
    config = nodes.node(
        role, "n", prefix="bench", site="s", broker_url="mqtt://127.0.0.1:1", state=tmp_path
    )
    file = tmp_path / "node.yaml"
    file.write_text(yaml.safe_dump(config | {"pipelines": {SMALL.name: pipeline}}))
    assert command_line(["validate", str(file)]) == 0


def test_a_target_is_kept_by_its_row() -> None:
    target = Target("key", "what", "<=", 2.0, "MiB")
    kept = msgspec.to_builtins(row(target, [1.0]))
    assert msgspec.to_builtins(target).items() - {("worst", False)} <= kept.items()
