"""The broker of all contestants: Mosquitto, with the same settings for each."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from bench.errors import BenchError
from escalon.demo.broker import BrokerProcess
from escalon.demo.broker_programs import HOST, find_mosquitto

CONFIG = """\
listener {port} {host}
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 1000
max_queued_messages 100000
max_packet_size 2000000
persistence false
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
connection_messages false
"""
"""Nothing is saved on disk: a broker that writes its state each second would blur every figure."""


def open_mosquitto(folder: Path) -> BrokerProcess:
    """Returns a Mosquitto that is not started yet.

    Args:
        folder: its own.

    Raises:
        BenchError: it is not installed.
    """
    program = find_mosquitto()
    if program is None:
        raise BenchError(
            "the benchmarks need Mosquitto: apt-get install mosquitto, brew install mosquitto"
        )
    demo_command = program.command

    def command(own: Path, port: int) -> list[str]:
        argv = demo_command(own, port)
        (own / "mosquitto.conf").write_text(config(port))
        return argv

    return BrokerProcess(folder, dataclasses.replace(program, command=command))


def config(port: int) -> str:
    """Returns Mosquitto's configuration."""
    text = CONFIG.format(port=port, host=HOST)
    # As root it would become the user `mosquitto`, who cannot read our folder.
    return text + "user root\n" if os.geteuid() == 0 else text
