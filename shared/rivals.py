"""Tells another process that runs under this node's name from this node's own past. Pure.

Two nodes with one client id evict each other from the broker for ever. Each finds, when it is back,
what the other left on their one retained ``state``: its birth, or the will that its own eviction
set off. But so does a node that is alone, right after it starts: the state of its previous life.
And a broker that was killed may bring back a state that it had long replaced.
"""

from __future__ import annotations

from shared.messages import NodeState

SIGNS_WITHIN_S = 600.0
MAX_KNOWN = 16


class Rivals:
    """Watches the retained state of one node.

    Args:
        instance: this process.
    """

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._born_in = 0
        self._signs: dict[str, tuple[int, float]] = {}

    def see(
        self, state: NodeState, *, retained: bool, session: int, after_outage: bool, now_s: float
    ) -> bool:
        """Takes a state that was published under this node's name.

        Args:
            state: it.
            retained: whether the broker had kept it, so that it may be old.
            session: number of the connection that it came on, from 1 up.
            after_outage: whether the broker could not be reached before that connection, so that it
                may have lost what it kept since.
            now_s: monotonic.

        Returns:
            Whether it proves that another process runs under our name: a birth while we are
            connected, or the second sign in another connection within ten minutes. A sign is a
            state that replaced ours while we were away from a broker that was there.
        """
        if state.instance == self._instance:
            self._born_in = session
            return False
        if not state.instance:
            return False  # from a software that did not say
        if not retained and state.state == "online" and self._born_in == session:
            return True
        if session == 1 or after_outage:
            return False
        return self._is_second_sign(state.instance, session, now_s)

    def _is_second_sign(self, instance: str, session: int, now_s: float) -> bool:
        first_session, seen_s = self._signs.get(instance, (session, now_s))
        if len(self._signs) >= MAX_KNOWN:
            self._signs.clear()
        self._signs[instance] = (session, now_s)
        return first_session != session and now_s - seen_s < SIGNS_WITHIN_S
