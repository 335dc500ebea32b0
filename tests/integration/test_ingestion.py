"""Real processes: several clouds store one site's telemetry between them, and people's labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.integration.hierarchy import (
    PREFIX,
    SITE,
    Hierarchy,
    Json,
    Observer,
    eventually,
    samples_topic,
)
from tests.integration.models import LABELS, SHAPE, unsure
from tests.postgres import Cluster

LABELS_TOPIC = f"{PREFIX}/{SITE}/meter/labels/cam-1"


class Clouds:
    """A site, and a store that several cloud processes write."""

    def __init__(self, hierarchy: Hierarchy, url: str) -> None:
        self.hierarchy = hierarchy
        self.url = url
        self._engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        telemetry = {"max_delay_s": 0.05, "max_records": 1, "retry_s": 1.0}
        tier2 = hierarchy.tier2_pipeline()
        self.tier2 = hierarchy.start(
            "tier2", "full-1", {"pipelines": {"meter": tier2}, "telemetry": telemetry}
        )
        pipeline = hierarchy.tier1_pipeline(escalation={"deadline_ms": 5000, "audit_share": 0})
        hierarchy.start("tier1", "edge-1", {"pipelines": {"meter": pipeline}})
        for name, duty in (("cloud", "all"), ("cloud-2", "ingest"), ("cloud-3", "ingest")):
            hierarchy.start("cloud", name, self.config(duty))

    def config(self, duty: str) -> Json:
        folder = self.hierarchy.folder
        pipeline = {
            "input": {"shape": list(SHAPE)},
            "labels": list(LABELS),
            "tier1_channel": "small",
            "tier2_channel": "full",
        }
        keys = {"signing_key": str(folder / "release.key"), "trust": str(folder / "trust.signed")}
        store = {"url": self.url, "inputs": str(folder / "inputs")}
        whole: Json = {
            "site": "cloud",
            "duty": duty,
            "store": store,
            "pipelines": {"meter": pipeline},
        }
        return whole | (keys if duty == "all" else {})

    def stored(self) -> list[tuple[str, str | None]]:
        """Returns ids and labels."""
        query = sa.text("SELECT id, label FROM samples")
        with self._engine.connect() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

    def ask(self, observer: Observer, count: int) -> list[str]:
        """Sends samples that tier-1 is not sure of; returns their ids once all are answered."""
        identities = [observer.new_id() for _ in range(count)]
        payloads = [json.dumps({"id": each, "features": unsure(0)}).encode() for each in identities]
        observer.publish_many([(samples_topic("cam-1"), payload) for payload in payloads])
        observer.all_predicted(identities)
        return identities

    def await_stored(self, identities: list[str]) -> None:
        wanted = set(identities)
        eventually(lambda: wanted <= {row[0] for row in self.stored()}, "the samples stored")
        count = Counter(row[0] for row in self.stored())
        assert {each: count[each] for each in identities} == dict.fromkeys(identities, 1)

    def close(self) -> None:
        self._engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def clouds(
    request: pytest.FixtureRequest, tmp_path: Path, require_mosquitto: None
) -> Iterator[Clouds]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    else:
        cluster: Cluster = request.getfixturevalue("cluster")
        url = cluster.new_database()
    with Hierarchy(tmp_path, "mosquitto") as hierarchy:
        made = Clouds(hierarchy, url)
        yield made
        made.close()


def shares(clouds: Clouds) -> Callable[[], bool]:
    """Whether every process has found out that the broker delivers shared subscriptions."""

    def told() -> bool:
        logs = dict(clouds.hierarchy.logs())
        names = ("cloud", "cloud-2", "cloud-3")
        return all("telemetry is shared" in logs[name] for name in names)

    return told


def test_processes_share_telemetry_and_one_that_is_killed_loses_nothing(clouds: Clouds) -> None:
    eventually(shares(clouds), "telemetry shared among three")
    with clouds.hierarchy.observer() as observer:
        clouds.await_stored(clouds.ask(observer, 40))
        clouds.hierarchy.nodes["cloud-2"].kill()
        clouds.await_stored(clouds.ask(observer, 40))
        clouds.hierarchy.nodes["cloud"].kill()  # who leads may be away: the others go on storing
        clouds.await_stored(clouds.ask(observer, 40))
        clouds.hierarchy.restart(clouds.hierarchy.nodes["cloud-2"])
        clouds.await_stored(clouds.ask(observer, 40))


def test_labels_reach_their_samples_also_those_said_while_tier2_was_away(clouds: Clouds) -> None:
    with clouds.hierarchy.observer() as observer:
        first, second = clouds.ask(observer, 2)
        clouds.await_stored([first, second])
        observer.publish(LABELS_TOPIC, json.dumps({"id": first, "label": LABELS[1]}).encode())
        eventually(lambda: (first, LABELS[1]) in clouds.stored(), "the first label")
        clouds.tier2.kill()
        observer.publish(LABELS_TOPIC, json.dumps({"id": second, "label": LABELS[2]}).encode())
        clouds.hierarchy.restart(clouds.tier2)
        eventually(lambda: (second, LABELS[2]) in clouds.stored(), "the second label")
        began = observer.mark()
        observer.publish(LABELS_TOPIC, json.dumps({"id": second, "label": "nonsense"}).encode())
        observer.until(lambda: observer.seen("/errors/cam-1", began), "the refusal")
        (told,) = observer.seen("/errors/cam-1", began)
        assert "label 'nonsense' is none of" in told.json["error"]
