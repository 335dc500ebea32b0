"""What can be known of the cloud node from beside it, and what that means in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from cloud.notice import Notice
from escalon.release.versions import moment

OLD_S = 150.0
"""An older snapshot of the fleet is said to be old: who watches writes it once a minute."""
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


@dataclass(frozen=True)
class CloudSigns:
    """What is known of the cloud node.

    Attributes:
        runs: whether one runs on the folder, on this machine.
        fleet_taken: when it saw the fleet so, seconds since 1970; 0 for never.
        notice: what it said last of what holds it up.
    """

    runs: bool
    fleet_taken: float = 0.0
    notice: Notice = field(default_factory=lambda: Notice(taken=0.0))

    def fleet_age(self, now_s: float) -> int | None:
        """Returns how old the snapshot is, to the minute: who watches is told of no more."""
        if not self.fleet_taken:
            return None
        return int(max(0.0, now_s - self.fleet_taken)) // MINUTE_S * MINUTE_S

    def held_up(self, channel: str) -> str:
        """Returns what holds a channel up, in words; empty for nothing."""
        trouble = self.notice.trouble(channel)
        if not trouble:
            return ""
        return f"held up: {trouble}" if self.runs else f"held up when the cloud node ran: {trouble}"

    def watching(self, now_s: float) -> str:
        """Returns what is wrong with how the fleet is watched; empty while a cloud node does."""
        age = _age(self.fleet_taken, now_s)
        seen = f"the fleet as it was {age} ago, at {moment(self.fleet_taken)}" if age else ""
        if self.runs:
            return f"{seen}: the cloud node runs, without an answer of its broker" if seen else ""
        return "; ".join(filter(None, [seen, "no cloud node runs on this folder here"]))

    def effect(self, now_s: float) -> str:
        """Returns when what is decided now takes effect; empty for at once."""
        if not self.runs:
            return "no cloud node runs on this folder here: it takes effect when one does"
        age = _age(self.fleet_taken, now_s)
        if not age:
            return ""
        return (
            f"the cloud node has had no answer of its broker for {age}: nodes hear of it when it "
            "has"
        )


def _age(taken_s: float, now_s: float) -> str:
    """Returns the age of a snapshot in words; empty while it is not old, or there is none."""
    age_s = max(0.0, now_s - taken_s)
    if not taken_s or age_s <= OLD_S:
        return ""
    units = ((DAY_S, "days"), (HOUR_S, "hours"), (MINUTE_S, "minutes"))
    return next(f"{age_s // unit_s:.0f} {unit}" for unit_s, unit in units if age_s >= 2 * unit_s)
