"""``escalon demo``."""

from __future__ import annotations

import argparse
import signal
from types import FrameType

from rich.console import Console

from escalon.demo.interrupts import INTERRUPTS
from escalon.demo.report import DemoReport
from escalon.demo.screen import LiveScreen, PlainScreen, Screen, summary
from escalon.demo.story import Settings, Story
from escalon.demo.workspace import Workspace
from escalon.output import as_json
from shared.config import BrokerConfig
from shared.durable import write_durably

INTERRUPTED = 130
PLAIN_WIDTH = 110

NEXT_STEPS = """\
Three things to try next
  1. Be a sensor yourself:   make demo ARGS=--keep-running, and in another terminal what it prints
  2. Take another split:     make demo ARGS="--seed 2 --report report.json"
  3. Use your own models:    README.md, "The YAML of one node"
"""


def run_demo(arguments: argparse.Namespace) -> int:
    """Runs the demo.

    Args:
        arguments: of the command line.

    Returns:
        The exit code: 0; 130 if it was interrupted.

    Raises:
        EscalonError: a process died, or a step took too long.
    """
    settings = Settings(arguments.seed, arguments.speed, arguments.duration, arguments.broker)
    story = Story(settings, Workspace(arguments.workdir))
    console = Console()
    plain = arguments.plain or not console.is_terminal
    if plain:
        console = Console(width=PLAIN_WIDTH)  # a pipe has no width, and 80 would break the table
    screen: Screen = PlainScreen() if plain else LiveScreen(console, story.broker_name)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        return _play(story, screen, console, arguments)
    except KeyboardInterrupt:
        screen.stop()
        console.print("stopped: every process is being ended")
        return INTERRUPTED
    finally:
        # A second Ctrl-C must not leave processes behind.
        for number in INTERRUPTS:
            signal.signal(number, signal.SIG_IGN)
        screen.stop()
        story.close()


def _play(story: Story, screen: Screen, console: Console, arguments: argparse.Namespace) -> int:
    screen.start()
    story.prepare(screen)
    report = story.play(screen)
    screen.stop()
    _conclude(report, console)
    if arguments.report is not None:
        write_durably(arguments.report, f"{as_json(report)}\n".encode())
        console.print(f"report: {arguments.report}")
    console.print(f"\n{NEXT_STEPS}", highlight=False, markup=False)
    if arguments.keep_running:
        console.print(_invitation(story), markup=False, highlight=False, soft_wrap=True)
        _watch(story, console)
    return 0


def _watch(story: Story, console: Console) -> None:
    """Leaves the hierarchy up. Ctrl-C is how it is meant to end, so it ends well."""
    screen = PlainScreen()
    screen.start()
    try:
        story.watch(screen)
    except KeyboardInterrupt:
        console.print("stopped: every process is being ended")


def _conclude(report: DemoReport, console: Console) -> None:
    console.print(summary(report))
    release, first = report.release, report.first_models
    console.print(
        f"tier-1: {first.tier1_int8_bytes:,} of {first.tier1_fp32_bytes:,} bytes as int8, accuracy "
        f"{first.tier1_int8_accuracy:.1%} against {first.tier1_fp32_accuracy:.1%} as fp32"
    )
    if release.certificate is not None:
        certificate = release.certificate
        console.print(
            f"v{release.new_version}: P(tier-1 disagrees with tier-2 | accepted) is at most "
            f"{certificate['alpha']:.0%} with {1 - certificate['delta']:.0%} confidence "
            f"({certificate['disagreements']} of {certificate['n']} in the test)"
        )
    seconds = ", ".join(f"{node.node} {node.seconds:.1f} s" for node in release.nodes)
    console.print(f"v{release.new_version} committed: {seconds}")
    console.print(f"broker: {report.broker}; {report.seconds_total:.0f} s in all")


def _invitation(story: Story) -> str:
    broker = BrokerConfig(url=story.broker_url)
    where = f"-h {broker.host} -p {broker.port}"
    return (
        f"The hierarchy stays up at {story.broker_url} until Ctrl-C. Look on:\n"
        f"  mosquitto_sub {where} -v -t 'escalon/site-a/meter/predictions/#' "
        "-t 'escalon/site-a/meter/errors/#'\n"
        "and be a sensor, with 64 numbers from 0 to 16 (both commands: mosquitto-clients):\n"
        f"  mosquitto_pub {where} -t escalon/site-a/meter/samples/cam-01 "
        "-m \"[$(seq -s, 1 64 | sed 's/[0-9]*/8/g')]\"\n"
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
