"""What a person sees of the demo: a live picture on a terminal, or plain lines."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from escalon.demo.observer import NodeView, Observer
from escalon.demo.report import DemoReport, PhaseReport

KEPT_EVENTS = 60
MIN_EVENTS = 3
OTHER_ROWS = 12  # banner, borders, broker, and one to spare
WIDE = 104  # columns that all figures of a node take
REFRESH_PER_S = 5
PLAIN_EVERY_S = 2.0
PHASE_STYLES = {"steady": "green", "drift": "yellow", "rollout": "cyan", "after": "green"}
PHASE_WORDS = {
    "prepare": "keys, data, broker, nodes; the cloud trains the first models",
    "steady": "tier-1 answers most, tier-2 what it is not sure of",
    "drift": "a knocked, dirty lens: tier-1 escalates more; the cloud notices, collects, retrains",
    "rollout": "a new release comes down: fetched, verified, proven, swapped between two batches",
    "after": "new scans through the same bad lens, the new model",
    "finish": "waiting for the last answers",
}


class Screen(Protocol):
    """Something that shows a run."""

    def start(self) -> None:
        """Begins to show."""

    def phase(self, name: str) -> None:
        """A phase begins."""

    def say(self, text: str) -> None:
        """Something happened."""

    def show(self, observer: Observer) -> None:
        """Shows the present state; called often."""

    def stop(self) -> None:
        """Leaves the terminal as it was."""


class PlainScreen:
    """Lines only, for pipes and CI."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._next_s = 0.0

    def start(self) -> None:
        """Begins to show."""
        self._began_s = time.monotonic()

    def phase(self, name: str) -> None:
        """A phase begins."""
        self.say(f"== {name}: {PHASE_WORDS[name]}")

    def say(self, text: str) -> None:
        """Something happened."""
        print(f"{time.monotonic() - self._began_s:6.1f} s  {text}", flush=True)

    def show(self, observer: Observer) -> None:
        """Prints what happened, and now and then a line for each tier-1 node."""
        while observer.events:
            self.say(observer.events.popleft())
        now_s = time.monotonic()
        if now_s < self._next_s or not observer.shown:
            return
        self._next_s = now_s + PLAIN_EVERY_S
        for name, view in sorted(observer.nodes.items()):
            if view.role == "tier1" and view.samples_per_s(time.time()) > 0:
                self.say(f"{name}  {_figures(view)}")

    def stop(self) -> None:
        """Nothing to restore."""
        sys.stdout.flush()


class LiveScreen:
    """A picture that moves.

    Args:
        console: the terminal.
        broker: the broker's name.
    """

    def __init__(self, console: Console, broker: str) -> None:
        self._console = console
        self._broker = broker
        self._phase = "prepare"
        self._events: deque[str] = deque(maxlen=KEPT_EVENTS)
        self._began_s = time.monotonic()
        self._live = Live(console=console, refresh_per_second=REFRESH_PER_S, transient=True)

    def start(self) -> None:
        """Begins to show."""
        self._live.start()

    def phase(self, name: str) -> None:
        """A phase begins."""
        self._phase = name
        self.say(f"phase {name}")

    def say(self, text: str) -> None:
        """Something happened."""
        self._events.append(f"{time.monotonic() - self._began_s:5.1f} s  {text}")

    def show(self, observer: Observer) -> None:
        """Draws the present state."""
        while observer.events:
            self.say(observer.events.popleft())
        self._live.update(
            Group(
                self._banner(),
                Panel(self._tree(observer), title="hierarchy", title_align="left"),
                Panel(_predictions(observer), title="predictions", title_align="left"),
                Panel(self._newest_events(observer), title="events", title_align="left"),
            )
        )

    def stop(self) -> None:
        """Leaves the terminal as it was."""
        self._live.stop()

    def _newest_events(self, observer: Observer) -> Text:
        taken = OTHER_ROWS + len(observer.nodes) + len(observer.shown)
        rows = max(MIN_EVENTS, self._console.height - taken)
        return Text("\n".join(list(self._events)[-rows:]), no_wrap=True, overflow="ellipsis")

    def _banner(self) -> Text:
        style = PHASE_STYLES.get(self._phase, "white")
        elapsed_s = time.monotonic() - self._began_s
        text = Text(f" {self._phase.upper()} ", style=f"bold black on {style}", no_wrap=True)
        text.overflow = "ellipsis"
        return text.append(f" {PHASE_WORDS[self._phase]}  ({elapsed_s:.0f} s)", style="not bold")

    def _tree(self, observer: Observer) -> Tree:
        by_role: dict[str, list[tuple[str, NodeView]]] = {"cloud": [], "tier2": [], "tier1": []}
        for name, view in sorted(observer.nodes.items()):
            by_role.get(view.role, []).append((name, view))
        root = Tree(f"[dim]{self._broker}[/dim]")
        branch = root
        for name, view in by_role["cloud"]:
            branch = branch.add(f"{_dot(view)} [bold]{name}[/bold]  {escape(view.activity)}")
        for name, view in by_role["tier2"]:
            branch = branch.add(f"{_dot(view)} [bold]{name}[/bold]  {view.version}  {view.update}")
        for name, view in by_role["tier1"]:
            figures = _figures(view, wide=self._console.width >= WIDE)
            branch.add(f"{_dot(view)} [bold]{name}[/bold]  {figures}")
        return root


def _dot(view: NodeView) -> str:
    return "[green]●[/green]" if view.online else "[red]○[/red]"


def _figures(view: NodeView, *, wide: bool = True) -> str:
    rate, share = view.samples_per_s(time.time()), view.escalated_share()
    if not view.recent:
        return f"{view.version:<4} no samples yet  {view.update}"
    p50, p99 = view.latency_ms(0.5), view.latency_ms(0.99)
    if not wide:
        return f"{view.version:<4} {rate:3.0f}/s {share:4.0%} esc. {p50:5.1f} ms  {view.update}"
    return (
        f"{view.version:<4} {rate:5.1f}/s  {share:4.0%} escalated  "
        f"p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  {view.update}"
    )


def _predictions(observer: Observer) -> Text:
    text = Text()
    for seen in observer.shown:
        prediction = seen.prediction
        style = {"tier1": "green", "tier2": "magenta", "fallback": "yellow"}[prediction.decided_by]
        text.append(f"{prediction.device_id} ", style="dim")
        text.append(f" {prediction.prediction} ", style="bold reverse")
        text.append(f"  {prediction.confidence:4.0%}  {prediction.decided_by:<8}", style=style)
        text.append(f"  {prediction.reason:<15} v{prediction.model_version}", style="dim")
        text.append(f"  {seen.latency_ms:6.1f} ms\n")
    text.rstrip()
    return text


def summary(report: DemoReport) -> Table:
    """Returns the closing table."""
    phases = report.phases
    table = Table(title="What the cascade did", title_justify="left")
    table.add_column("")
    for name in phases:
        table.add_column(name, justify="right", style=PHASE_STYLES[name])
    rows: list[tuple[str, Callable[[PhaseReport], str]]] = [
        ("samples", lambda phase: f"{phase.samples:,}"),
        ("lost / duplicates", lambda phase: f"{phase.lost} / {phase.duplicates}"),
        ("accuracy of the cascade", lambda phase: _percent(phase.accuracy)),
        ("  tier-1 alone", lambda phase: _percent(phase.tier1_accuracy)),
        ("  tier-2 alone", lambda phase: _percent(phase.tier2_accuracy)),
        ("  without the new release", lambda phase: _without(phase, "accuracy")),
        ("escalated: not sure, asked", lambda phase: _percent(phase.escalation_rate)),
        ("  without the new release", lambda phase: _without(phase, "escalation_rate")),
        ("audited: sure, checked", lambda phase: _percent(phase.audit_rate)),
        ("p50 / p99", _latency),
        ("bytes from the sensors", lambda phase: f"{phase.bytes_sensor:,}"),
        ("bytes to tier-2", lambda phase: f"{phase.bytes_escalation:,}"),
        ("bytes to the cloud", lambda phase: f"{phase.bytes_uplink:,}"),
    ]
    for title, cell in rows:
        table.add_row(title, *(cell(phase) for phase in phases.values()))
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _without(phase: PhaseReport, name: str) -> str:
    return "" if phase.without_release is None else _percent(getattr(phase.without_release, name))


def _latency(phase: PhaseReport) -> str:
    if phase.p50_ms is None or phase.p99_ms is None:
        return "-"
    return f"{phase.p50_ms:.1f} / {phase.p99_ms:.1f} ms"
