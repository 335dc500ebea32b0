"""What is watched follows from store and file: a restart neither forgets nor repeats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from cloud.watching.config import DriftConfig, RetrainConfig
from cloud.watching.state import Alarm, WatchFile
from cloud.watching.watch import Promised
from cloud.watching.watcher import POLL_S, Watcher
from shared.errors import StorageError
from shared.messages import GateCount, TelemetryRecord, Tensor
from tests.builders import LABELS, record
from tests.store.desk import NOON_S, StoreDesk, told

PROMISED = Promised(0.2, 0.05)
CONFIG = RetrainConfig(window=200, audits=40, drift=DriftConfig(reference=50))
BATCH = 100


class Site:
    """A store that one site fills, and watchers of it, one life after the other."""

    def __init__(self, folder: Path) -> None:
        self.desk = StoreDesk(f"sqlite:///{folder / 'telemetry.sqlite'}", str(folder / "inputs"))
        self.path = folder / "watching" / "meter.json"
        self.rng = np.random.default_rng(1)
        self.now_s = 0.0
        self.sent = 0

    def watcher(self, config: RetrainConfig = CONFIG) -> Watcher:
        made = Watcher("meter", config, self.desk.store, self.path)
        made.begin("1", PROMISED, NOON_S)
        return made

    def counts(self, rate: float, rows: int = 20, version: str = "1") -> None:
        """Has gates have counted ten samples a row."""
        unsure = self.rng.binomial(10, rate, rows).tolist()
        self.desk.send(counts=[GateCount("tier1-a", "meter", version, 10, each) for each in unsure])

    def audits(self, count: int, risk: float = 0.0, confidence: float = 0.97) -> None:
        """Has the audit have drawn samples that tier-1 had accepted."""
        self.desk.send(*(self._audited(risk, confidence) for _ in range(count)))

    def _audited(self, risk: float, confidence: float) -> TelemetryRecord:
        self.sent += 1
        found = record(self.sent, audit=True)
        label = 1 if self.rng.random() < risk else 0
        return msgspec.structs.replace(
            found,
            sample=msgspec.structs.replace(found.sample, reason="audit", inclusion_probability=0.1),
            tier1_probabilities=scores(0, confidence),
            tier2_probabilities=scores(label, 0.98),
        )

    def poll(self, watcher: Watcher, times: int = 2) -> list[Alarm]:
        raised = []
        for _ in range(times):
            self.now_s += POLL_S
            raised += [watcher.poll(self.now_s)]
        return [each for each in raised if each]


def scores(label: int, confidence: float) -> Tensor:
    rest = (1 - confidence) / (len(LABELS) - 1)
    row = [confidence if place == label else rest for place in range(len(LABELS))]
    return Tensor.of(np.array(row, np.float32))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.desk.close()


def alarmed(site: Site) -> Watcher:
    watcher = site.watcher()
    site.counts(0.2)
    site.counts(0.8)
    (alarm,) = site.poll(watcher)
    assert alarm == watcher.alarm
    return watcher


def test_a_drift_in_the_store_raises_one_alarm(site: Site) -> None:
    watcher = alarmed(site)
    assert watcher.alarm is not None
    assert (watcher.alarm.test, watcher.alarm.since_s) == ("binomial", NOON_S)
    assert "samples escalated where 20% were certified" in watcher.alarm.words
    site.counts(0.9)
    assert site.poll(watcher) == []


def test_a_restart_does_not_forget_an_alarm_and_does_not_raise_it_again(site: Site) -> None:
    alarm = alarmed(site).alarm
    again = site.watcher()
    assert again.alarm == alarm
    site.counts(0.8)
    assert site.poll(again) == []
    assert again.alarm == alarm


@pytest.mark.parametrize("restarts", [1, 3, 5, 9], ids=lambda every: f"every-{every}")
def test_cut_into_lives_it_finds_what_one_life_finds(
    tmp_path: Path, site: Site, restarts: int
) -> None:
    whole, cut, path = site.watcher(), site.watcher(), tmp_path / "other.json"
    cut = Watcher("meter", CONFIG, site.desk.store, path)
    cut.begin("1", PROMISED, NOON_S)
    for turn in range(30):
        site.audits(20, risk=0.0 if turn < 15 else 0.3)
        if turn % restarts == 0:
            cut = Watcher("meter", CONFIG, site.desk.store, path)
            cut.begin("1", PROMISED, NOON_S)
        said = [site.poll(each, 1) for each in (whole, cut)]
        assert said[0] == said[1]
    assert whole.alarm is not None
    assert whole.alarm == cut.alarm
    assert whole.agreement == cut.agreement


def test_what_came_before_the_version_stood_and_what_is_of_another_is_not_its(site: Site) -> None:
    site.counts(0.9, rows=100)
    watcher = site.watcher()
    site.counts(0.9, rows=100, version="0")
    assert site.poll(watcher) == []


def test_much_at_once_is_read_in_pages_without_waiting(site: Site) -> None:
    watcher = site.watcher()
    site.counts(0.2, rows=2500)
    site.counts(0.9)
    raised: list[Alarm] = []
    turns = 0
    while not raised:
        turns += 1
        raised = [each for each in (watcher.poll(1.0),) if each]
        assert turns <= 3
    assert turns > 1


def test_between_two_looks_the_store_is_left_alone(site: Site) -> None:
    watcher = site.watcher()
    watcher.poll(1.0)
    site.counts(0.9, rows=100)
    assert watcher.poll(1.0 + POLL_S / 2) is None
    assert watcher.poll(1.0 + POLL_S) is not None


def test_audits_that_part_from_the_confidence_are_an_alarm_and_both_are_shown(site: Site) -> None:
    watcher = site.watcher()
    assert watcher.agreement is None
    site.audits(200)
    assert site.poll(watcher) == []
    site.audits(300, risk=0.3)
    (alarm,) = site.poll(watcher)
    assert alarm.test in {"calibration", "risk", "adwin", "page_hinkley"}
    found = watcher.agreement
    assert found is not None
    assert found.expected.value == pytest.approx(0.97, abs=1e-6)
    assert found.audited.value < 0.9 < found.expected.lower


# The certificate


def test_a_void_is_due_until_it_is_written_down(site: Site) -> None:
    watcher = alarmed(site)
    assert watcher.alarm is not None
    for life in (watcher, site.watcher()):
        void = life.void_due(is_void=False, now_s=NOON_S)
        assert void is not None
        assert (void.reason, void.since) == (watcher.alarm.words, watcher.alarm.since_s)
    assert watcher.void_due(is_void=True, now_s=NOON_S) is None
    assert site.watcher().void_due(is_void=True, now_s=NOON_S) is None


def test_without_an_alarm_none_is(site: Site) -> None:
    assert site.watcher().void_due(is_void=False, now_s=NOON_S) is None


def test_where_a_person_has_ended_it_the_version_is_watched_anew(site: Site) -> None:
    watcher = alarmed(site)
    watcher.void_due(is_void=True, now_s=NOON_S)
    assert watcher.void_due(is_void=False, now_s=NOON_S) is None
    assert watcher.alarm is None
    for life in (watcher, site.watcher()):
        assert life.alarm is None
        assert site.poll(life) == []  # what came before is over
    site.counts(0.9)
    assert len(site.poll(site.watcher())) == 1


def test_another_version_begins_without_alarm_and_the_one_before_has_its_own_when_it_is_back(
    site: Site,
) -> None:
    watcher = alarmed(site)
    alarm = watcher.alarm
    watcher.begin("2", PROMISED, NOON_S)
    assert watcher.alarm is None
    watcher.begin("1", PROMISED, NOON_S)
    assert watcher.alarm == alarm


# Triggers


def trained(watcher: Watcher) -> None:
    watcher.begin_training("2", NOON_S)
    watcher.end_training(decided=True)


def test_a_drift_waits_for_audits_that_came_after_it(site: Site) -> None:
    site.audits(100)
    watcher = alarmed(site)
    assert watcher.decide(NOON_S).act == "collect"
    site.audits(CONFIG.audits - 1)
    assert watcher.decide(NOON_S).act == "collect"
    site.audits(1)
    decision = watcher.decide(NOON_S)
    assert decision.act == "train"
    assert decision.causes[0].startswith("drift: ")


def test_after_a_training_it_waits_for_the_cool_down_and_for_other_labels(site: Site) -> None:
    watcher = alarmed(site)
    site.audits(CONFIG.audits)
    trained(watcher)
    for life in (watcher, site.watcher()):
        assert life.decide(NOON_S + CONFIG.cool_down_s - 1).act == "cool_down"
        assert life.decide(NOON_S + CONFIG.cool_down_s).act == "collect"
    site.audits(CONFIG.audits)
    assert site.watcher().decide(NOON_S + CONFIG.cool_down_s).act == "train"


def test_a_training_that_failed_has_used_nothing_up_and_is_tried_again_after_the_cool_down(
    site: Site,
) -> None:
    watcher = alarmed(site)
    site.audits(CONFIG.audits)
    watcher.begin_training("2", NOON_S)
    watcher.end_training(decided=False)
    for life in (watcher, site.watcher()):
        assert life.under_way is None
        assert life.decide(NOON_S + CONFIG.cool_down_s - 1).act == "cool_down"
        assert life.decide(NOON_S + CONFIG.cool_down_s).act == "train"


def test_a_training_is_under_way_until_its_candidate_is_decided_on_over_a_restart(
    site: Site,
) -> None:
    watcher = alarmed(site)
    site.audits(CONFIG.audits)
    watcher.begin_training("2", NOON_S)
    for life in (watcher, site.watcher()):
        found = life.under_way
        assert found is not None
        assert (found.version, found.began_s, found.since_s) == ("2", NOON_S, watcher.since_s)
    site.audits(CONFIG.audits)  # while it trains: these are new
    site.watcher().end_training(decided=True)
    again = site.watcher()
    assert again.under_way is None
    assert again.decide(NOON_S + CONFIG.cool_down_s).act == "train"


def test_labels_of_people_do_not_stand_for_audits(site: Site) -> None:
    watcher = alarmed(site)
    records = [record(10_000 + number) for number in range(CONFIG.audits)]
    site.desk.send(*records)
    site.desk.store.label([told(each.sample.id, "zero") for each in records], NOON_S)
    assert watcher.decide(NOON_S).act == "collect"


def test_what_another_teacher_answered_does_not_count(site: Site) -> None:
    watcher = alarmed(site)
    site.audits(CONFIG.audits)
    assert watcher.decide(NOON_S, "8").act == "collect"
    assert watcher.decide(NOON_S, "7").act == "train"


def test_new_samples_are_those_since_the_watch_and_the_last_training(site: Site) -> None:
    config = RetrainConfig(after_samples=100, audits=40, cool_down_s=0.0)
    site.audits(150)
    watcher = site.watcher(config)
    assert watcher.decide(NOON_S).act == "rest"
    site.audits(100)
    assert watcher.decide(NOON_S).causes == ("100 new samples",)
    trained(watcher)
    assert site.watcher(config).decide(NOON_S).act == "rest"


def test_the_timer_goes_on_over_a_restart(site: Site) -> None:
    config = RetrainConfig(every_s=3600.0, audits=40)
    site.watcher(config)
    site.audits(40)
    again = site.watcher(config)
    assert again.decide(NOON_S + 3599).act == "rest"
    assert again.decide(NOON_S + 3600).act == "train"


# The file


def test_a_file_that_is_none_is_not_taken_for_an_empty_one(site: Site) -> None:
    site.path.parent.mkdir()
    site.path.write_bytes(b"{")
    with pytest.raises(StorageError, match=r"is no record of what is watched.*move it away"):
        site.watcher()


def test_it_is_written_when_something_was_learned_and_not_at_every_look(site: Site) -> None:
    watcher = site.watcher()
    site.audits(CONFIG.drift.reference)
    site.poll(watcher)
    written = site.path.stat().st_mtime_ns
    site.audits(100)
    site.poll(watcher, times=5)
    assert site.path.stat().st_mtime_ns == written
    known = WatchFile(site.path).read().of("1")
    assert known is not None
    assert known.audits is not None
    assert known.audits.chance == pytest.approx(0.1)
