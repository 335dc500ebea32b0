"""Inputs in an object store: the same as in a folder, on a server of our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cloud.store import RetentionLimits
from cloud.store.sealing import SEAL_AGE_S
from shared.errors import StorageError
from tests.builders import record
from tests.store.desk import NOON_S, StoreDesk

BUCKET = "escalon"
DAY_S = 86_400.0


@pytest.fixture(scope="module")
def s3() -> Iterator[object]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket=BUCKET)
        yield client
    server.stop()


def objects(client: object) -> list[str]:
    listed = client.list_objects_v2(Bucket=BUCKET)  # type: ignore[attr-defined]
    return [each["Key"] for each in listed.get("Contents", ())]


def test_inputs_go_to_a_bucket_and_come_back_and_leave(s3: object, tmp_path: Path) -> None:
    limits = RetentionLimits(10 * DAY_S, 100 * DAY_S, 10 * DAY_S, 2**40)
    desk = StoreDesk(f"sqlite:///{tmp_path}/t.sqlite", f"s3://{BUCKET}/cloud-1", limits)
    for number in range(5):
        desk.send(record(number), now_s=NOON_S)
    assert objects(s3) == []
    desk.store.upkeep(NOON_S + SEAL_AGE_S + 1)
    (key,) = objects(s3)
    assert key.startswith("cloud-1/2025-11-25/")
    assert desk.inputs() == [0.0, 1.0, 2.0, 3.0, 4.0]
    # What a process wrote and did not live to name goes; what is somebody else's stays.
    put = s3.put_object  # type: ignore[attr-defined]
    put(Bucket=BUCKET, Key=f"cloud-1/2025-11-25/{int(NOON_S)}-{'0' * 32}.packs", Body=b"left over")
    put(
        Bucket=BUCKET,
        Key="cloud-2/2025-11-25/1764072000-11111111111111111111111111111111.packs",
        Body=b"another cloud's",
    )
    desk.close()
    desk = StoreDesk(f"sqlite:///{tmp_path}/t.sqlite", f"s3://{BUCKET}/cloud-1", limits)
    while desk.store.upkeep(NOON_S + DAY_S):
        pass
    assert sorted(objects(s3)) == [
        key,
        "cloud-2/2025-11-25/1764072000-11111111111111111111111111111111.packs",
    ]
    assert len(desk.inputs()) == 5
    while desk.store.upkeep(NOON_S + 11 * DAY_S):
        pass
    assert objects(s3) == ["cloud-2/2025-11-25/1764072000-11111111111111111111111111111111.packs"]
    desk.close()


def test_a_bucket_that_is_not_there_is_named_and_nothing_is_lost(
    s3: object, tmp_path: Path
) -> None:
    desk = StoreDesk(f"sqlite:///{tmp_path}/t.sqlite", "s3://nobodys-bucket/x")
    desk.send(record(1), now_s=NOON_S)
    with pytest.raises(StorageError, match="nobodys-bucket"):
        desk.store.upkeep(NOON_S + SEAL_AGE_S + 1)
    assert desk.inputs() == [1.0]
    desk.close()
