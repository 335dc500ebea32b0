"""The options of ``escalon demo``; known without the demo's extra."""

from __future__ import annotations

import argparse
from pathlib import Path

from pydantic import ValidationError

from shared.config import BrokerConfig

MAX_SEED = 2**32 - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the demo's options to its part of the command line."""
    parser.add_argument("--plain", action="store_true", help="lines only, for pipes and CI")
    parser.add_argument("--seed", type=_seed, default=1, help="split of the data, order, drift")
    parser.add_argument(
        "--speed", type=_positive, default=1.0, help="times 150 samples/s; phases shorten alike"
    )
    parser.add_argument(
        "--duration", type=_positive, default=12.0, metavar="S",
        help="seconds of the phases steady and after, at speed 1; drift lasts until the release",
    )  # fmt: skip
    parser.add_argument("--report", type=_report, metavar="FILE", help="write the figures as JSON")
    parser.add_argument(
        "--broker",
        type=_broker,
        default="auto",
        metavar="URL",
        help="mqtt://host:port of a broker that runs; or `mosquitto` or `amqtt` to start that one "
        "(default: Mosquitto where it is installed, else amqtt)",
    )
    parser.add_argument(
        "--keep-running", action="store_true", help="leave the hierarchy up until Ctrl-C"
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path(".escalon/demo"),
        help="folder for state and logs; its run/ is emptied at each start",
    )


def _seed(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MAX_SEED:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {MAX_SEED}")
    return number


def _report(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a file in a folder that exists")
    return path


def _broker(text: str) -> str:
    if text not in {"auto", "mosquitto", "amqtt"}:
        try:
            BrokerConfig(url=text)
        except ValidationError as error:
            problem = f"{text} is neither mqtt://host:port nor mosquitto nor amqtt"
            raise argparse.ArgumentTypeError(problem) from error
    return text


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number
