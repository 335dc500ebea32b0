"""What a link did not use is counted in full, shown in part, and said now and then."""

from __future__ import annotations

import logging

import pytest

from shared.mqtt.link_drops import MAX_SHOWN, LinkDrops
from shared.mqtt.packet_stream import Skipped
from shared.mqtt.trouble_log import REPEAT_S

URL = "mqtt://broker"


@pytest.fixture
def drops() -> LinkDrops:
    return LinkDrops(URL, logging.getLogger("drops"))


def skipped(size: int, reason: str = "too_large") -> Skipped:
    return Skipped(reason, "a/b", 0, size, retain=False)


def test_every_one_is_counted_once_by_its_reason(drops: LinkDrops) -> None:
    drops.skip(skipped(1))
    drops.skip(skipped(2))
    drops.skip(skipped(3, "bad_topic"))
    drops.refuse([0x97, 0x87])
    drops.give_up(2_000_000)
    assert drops.take() == {"too_large": 2, "bad_topic": 1, "refused": 3}
    assert drops.take() == {}


def test_the_latest_are_shown_once(drops: LinkDrops) -> None:
    for size in range(MAX_SHOWN + 2):
        drops.skip(skipped(size))
    assert [each.size for each in drops.take_skipped()] == list(range(2, MAX_SHOWN + 2))
    assert drops.take_skipped() == []


def test_many_of_different_sizes_are_said_once_a_minute(
    drops: LinkDrops, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(100):
        drops.skip(skipped(1_000_000 + index))
        drops.say(index / 100)
    drops.skip(skipped(17))
    drops.say(REPEAT_S)
    assert caplog.messages == [
        "dropped messages: too_large, such as 1000000 bytes on a/b",
        "dropped messages: too_large, such as 17 bytes on a/b (99 times more)",
    ]


def test_each_reason_and_each_code_of_a_refusal_is_said(
    drops: LinkDrops, caplog: pytest.LogCaptureFixture
) -> None:
    drops.skip(skipped(1))
    drops.skip(skipped(2, "bad_topic"))
    drops.refuse([0x97, 0x87, 0x87])
    drops.say(0.0)
    drops.say(0.1)
    assert [message.split(", ")[0] for message in caplog.messages] == [
        "dropped messages: too_large",
        "dropped messages: bad_topic",
        f"{URL} refuses messages: reason code 0x97",
        f"{URL} refuses messages: reason code 0x87",
    ]
