"""A node's life: its start, its memory, and its sudden death."""

from __future__ import annotations

import time
from statistics import median

from bench.errors import StalledError
from bench.ledger import Ledger
from bench.load import Load
from bench.loops import PAUSE_S, Window, fill
from bench.models import SMALL
from bench.scenario import Figure, Outcome, Plan, Say
from bench.stand import Contestant, Stand
from bench.throughput import one_run

KILL_WINDOW = 2000
SOME_THOUSAND_SAMPLES = Window(messages=500, warm_up_s=0.0, seconds=1.0)


def start(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """Process start to first prediction, then memory after a run at saturation."""
    outcome = Outcome()
    for contestant in (stand.naive(SMALL, 1), stand.ours(SMALL, 1)):
        starts_s, memory_mib = _starts(stand, plan, say, contestant)
        values = {"start s": median(starts_s), "memory MiB": median(memory_mib)}
        outcome.figures.append(Figure("start and memory", contestant.name, values))
        # The last contestant's, ours, remain.
        outcome.measurements = {"start_s": starts_s, "rss_mib": memory_mib}
    return outcome


def _starts(
    stand: Stand, plan: Plan, say: Say, contestant: Contestant
) -> tuple[list[float], list[float]]:
    starts_s: list[float] = []
    memory_mib: list[float] = []
    # The first start of all reads its files from the disk, and is not counted.
    for number in range(plan.starts + 1):
        try:
            began_s = time.perf_counter()
            contestant.node.start()
            took_s = stand.await_answer(contestant) - began_s
            if number:
                one_run(stand, SOME_THOUSAND_SAMPLES, contestant)
                starts_s.append(took_s)
                memory_mib.append(contestant.node.rss_mib)
                say(
                    f"start {number}/{plan.starts}, {contestant.name}: "
                    f"{took_s:.2f} s, then {memory_mib[-1]:.0f} MiB"
                )
        finally:
            contestant.node.stop()
    return starts_s, memory_mib


def lost(stand: Stand, plan: Plan, say: Say) -> Outcome:
    """Kills a node at saturation and starts it again: is every acknowledged sample answered?"""
    losses: list[float] = []
    duplicates = 0
    contestant = stand.ours(SMALL, 1)
    for number in range(plan.kills):
        with stand.running(contestant):
            ledger = Ledger()
            load = Load(
                stand.broker.port, contestant.lane, contestant.feed(), ledger=ledger, audience_qos=1
            )
            with load:
                _kill_in_the_middle(load, ledger, contestant, plan.kill_messages)
        losses.append(ledger.lost)
        duplicates += ledger.duplicates
        say(
            f"kill -9, {number + 1}/{plan.kills}: {len(ledger.acknowledged)} acknowledged, "
            f"{ledger.lost} lost, {ledger.duplicates} answered twice"
        )
    note = (
        f"{plan.kills} runs of {plan.kill_messages} samples each; {duplicates} were answered a "
        "second time after the kill, with their id, as at_least_once may"
    )
    return Outcome({"lost": losses}, notes={"lost": note})


def _kill_in_the_middle(load: Load, ledger: Ledger, contestant: Contestant, messages: int) -> None:
    killed = False
    try:
        while load.sent < messages or load.unanswered:
            if load.sent < messages:
                fill(load, KILL_WINDOW)
            load.turn(0)
            time.sleep(PAUSE_S)
            if not killed and len(ledger.answered_s) > messages // 2:
                killed = True
                contestant.node.kill()
                contestant.node.start()
    except StalledError:
        # A node that did not come up again is no measurement. Of one that did, what has no answer
        # for so long has none, and is counted.
        contestant.node.check()
