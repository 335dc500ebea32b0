"""Which brokers are installed on this machine, and how each is run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
EMBEDDED_READY = "the embedded broker listens"

# Debian and Homebrew install Mosquitto where a plain user's PATH does not look.
SBIN_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")

# `max_packet_size` and not `message_size_limit`: over the latter a v3.1.1 publisher is acked and
# its message dropped, and 2.1 advises against it. 2,000,000 bytes is what 2.1 defaults to.
MOSQUITTO_CONFIG = """\
listener {port} {host}
allow_anonymous true
set_tcp_nodelay true
max_inflight_messages 1000
max_queued_messages 100000
max_packet_size 2000000
persistence true
persistence_location {folder}/
autosave_interval 1
log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


@dataclass(frozen=True)
class BrokerProgram:
    """An installed broker and how to run it.

    Attributes:
        name: what the run reports, such as ``Mosquitto 2.0.11``.
        command: given the folder and the port, writes what the broker needs and returns its argv.
        environment: variables added to ours.
        ready_pattern: regular expression of what its log says once it listens.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    environment: Mapping[str, str]
    ready_pattern: str


def find_mosquitto() -> BrokerProgram | None:
    """Return Mosquitto where it is installed and runs, else None."""
    search_path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SBIN_FOLDERS))
    executable = shutil.which("mosquitto", path=search_path)
    if executable is None:
        return None
    try:
        # `--version` exists, but its exit status and text differ between 2.0 releases.
        usage = subprocess.run(
            [executable, "-h"], check=False, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"mosquitto version (\S+)", usage.stdout + usage.stderr)
    if version is None:
        return None

    def command(folder: Path, port: int) -> list[str]:
        config_path = folder / "mosquitto.conf"
        config_path.write_text(mosquitto_config(folder, port))
        return [executable, "-c", str(config_path)]

    return BrokerProgram(f"Mosquitto {version[1]}", command, {}, r"mosquitto version \S+ running")


def mosquitto_config(folder: Path, port: int) -> str:
    """Return a configuration that Mosquitto 2.0 and 2.1 accept.

    Args:
        folder: where it saves its state; a path of one line.
        port: TCP port on 127.0.0.1.
    """
    text = MOSQUITTO_CONFIG.format(host=HOST, port=port, folder=folder)
    if os.geteuid() == 0:
        # As root it would become the user `mosquitto`, who cannot write our folder.
        text += "user root\n"
    return text


def find_amqtt() -> BrokerProgram | None:
    """Return amqtt where it is installed, else None."""
    if importlib.util.find_spec("amqtt") is None:
        return None

    def command(folder: Path, port: int) -> list[str]:
        # -P: no file in the working folder may stand in for a module.
        return [sys.executable, "-P", "-m", "escalon.demo.embedded_broker", "--port", str(port)]

    # The child imports what we import, whether we are installed, or run from a checkout.
    environment = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    name = f"amqtt {importlib.metadata.version('amqtt')} (embedded)"
    return BrokerProgram(name, command, environment, EMBEDDED_READY)
