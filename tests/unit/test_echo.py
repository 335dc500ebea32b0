"""The echo tells that all before it has come, on this connection and no other."""

from __future__ import annotations

from cloud.echo import AGAIN_S, Echo
from tests.fakes import FakeBroker, FakeLink

TOPIC = "escalon/cloud/nodes/cloud/probe/session"


class Rig:
    """A link with an echo."""

    def __init__(self) -> None:
        self.hub = FakeBroker()
        self.link = FakeLink(self.hub, connected=False)
        self.echo = Echo(self.link, TOPIC)
        self.echo.start()

    def connect(self) -> None:
        self.link.connect()
        self.echo.begin()

    def hears(self) -> bool:
        """Takes what has come; returns whether the echo is back."""
        for message in self.link.receive():
            assert self.echo.take(message)
        return self.echo.back

    @property
    def sent(self) -> int:
        return len(self.hub.payloads(TOPIC))


def test_it_is_back_once_it_has_come_and_is_not_sent_again() -> None:
    rig = Rig()
    assert not rig.echo.back
    rig.connect()
    assert not rig.echo.back
    assert rig.hears()
    for now_s in (0.0, AGAIN_S, 2 * AGAIN_S):
        rig.echo.poll(now_s)
    assert rig.sent == 1


def test_one_that_is_lost_is_sent_again_after_a_while() -> None:
    rig = Rig()
    rig.connect()
    rig.link.receive()
    for now_s in (0.0, AGAIN_S / 2):
        rig.echo.poll(now_s)
        assert not rig.hears()
    rig.echo.poll(AGAIN_S)
    assert rig.hears()
    assert rig.sent == 2


def test_one_that_the_link_does_not_take_is_sent_as_soon_as_it_does() -> None:
    rig = Rig()
    rig.echo.begin()
    rig.echo.poll(0.0)
    assert rig.sent == 0
    rig.link.connect()
    rig.echo.poll(0.1)
    assert rig.hears()


def test_one_of_an_earlier_connection_proves_nothing() -> None:
    rig = Rig()
    rig.connect()
    (before,) = rig.hub.payloads(TOPIC)
    assert rig.hears()
    rig.link.cut()
    rig.link.connect()
    rig.hub.publish(TOPIC, before)
    assert not rig.hears()
    rig.echo.begin()
    assert rig.hears()
