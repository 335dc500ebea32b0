"""The MQTT broker that ``escalon demo`` starts as an OS process of its own.

Mosquitto where it is installed, with its own configuration file, port and folder; otherwise amqtt
(see ``embedded_broker.py``). Both listen on 127.0.0.1 only. The broker outlives nothing: whoever
starts it stops it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from shared.errors import EscalonError

HOST = "127.0.0.1"
MQTT_PORT = 1883
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
START_ATTEMPTS = 5
POLL_INTERVAL_S = 0.02
LOG_TAIL_LINES = 8

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


class BrokerUnavailableError(EscalonError):
    """No broker is installed, or the one that is does not start."""


@dataclass(frozen=True)
class BrokerProgram:
    """An installed broker and how to run it.

    Attributes:
        name: what the run reports, such as ``Mosquitto 2.0.11``.
        command: given the folder and the port, writes what the broker needs and returns its argv.
        environment: variables added to ours.
    """

    name: str
    command: Callable[[Path, int], list[str]]
    environment: Mapping[str, str]


class BrokerProcess:
    """A broker in a child process, on a free port of 127.0.0.1.

    ``start`` after ``stop`` or ``kill`` uses the same port and folder again, so that clients find
    it and Mosquitto finds what it had saved.
    """

    def __init__(self, folder: Path, program: BrokerProgram) -> None:
        """Store the arguments; nothing runs before ``start``.

        Args:
            folder: the broker's own folder: configuration, log and saved state.
            program: what to run.
        """
        self.folder = folder.resolve()
        self.name = program.name
        self.log_path = self.folder / "broker.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._program = program
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The TCP port, known from the first ``start`` on.

        Raises:
            BrokerUnavailableError: the broker was never started.
        """
        if self._port is None:
            raise BrokerUnavailableError(f"{self.name} has no port yet: call start() first")
        return self._port

    @property
    def url(self) -> str:
        """``mqtt://127.0.0.1:PORT``."""
        return f"mqtt://{HOST}:{self.port}"

    def start(self) -> None:
        """Start the broker and wait until it accepts MQTT.

        Raises:
            BrokerUnavailableError: it ends or stays silent; the message carries the end of its log.
        """
        if self.process is not None and self.process.poll() is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + START_TIMEOUT_S
        for _ in range(START_ATTEMPTS):
            # Between the choice of a free port and the broker's bind, anyone may take it.
            port = self._port or free_port()
            if is_free(port) and self._start_on(port, deadline):
                self._port = port
                return
        raise BrokerUnavailableError(
            f"{self.name} does not start on port {port}; {self.log_path}:\n{self._log_tail()}"
        )

    def stop(self) -> None:
        """End the broker by SIGTERM, or by SIGKILL where that takes too long; idempotent."""
        process = self.process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.process = None

    def kill(self) -> None:
        """End the broker by SIGKILL, as a crash would; idempotent."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self) -> Self:
        """Start the broker."""
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the broker."""
        self.stop()

    def _start_on(self, port: int, deadline: float) -> bool:
        self.process = self._launch(port)
        try:
            ready = self._wait_until_ready(self.process, port, deadline)
        except BaseException:
            self.stop()  # Ctrl-C while we wait must not leave a broker behind.
            raise
        if not ready:
            self.stop()
        return ready

    def _launch(self, port: int) -> subprocess.Popen[bytes]:
        argv = self._program.command(self.folder, port)
        with self.log_path.open("ab") as log:
            try:
                return subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    env={**os.environ, **self._program.environment},
                    # Ctrl-C in the terminal is for the demo, which then stops us in its order.
                    start_new_session=True,
                )
            except OSError as error:
                raise BrokerUnavailableError(
                    f"{self.name}: cannot run {argv[0]}: {error}"
                ) from error

    @staticmethod
    def _wait_until_ready(process: subprocess.Popen[bytes], port: int, deadline: float) -> bool:
        while time.monotonic() < deadline:
            if accepts_mqtt(port):
                # A stranger on our port would answer too, while our child fails to bind.
                return process.poll() is None
            try:
                process.wait(POLL_INTERVAL_S)
            except subprocess.TimeoutExpired:
                continue
            return False
        return False

    def _log_tail(self) -> str:
        if not self.log_path.exists():
            return "(no log yet)"
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


def open_broker(
    folder: Path, prefer: Literal["auto", "mosquitto", "amqtt"] = "auto"
) -> BrokerProcess:
    """Choose an installed broker; the caller starts it.

    Args:
        folder: the broker's own folder, made by ``start``.
        prefer: ``auto`` takes Mosquitto where it is installed and amqtt otherwise.

    Returns:
        A broker that is not started yet.

    Raises:
        BrokerUnavailableError: what was asked for is not installed.
    """
    finders = {"mosquitto": find_mosquitto, "amqtt": find_amqtt}
    wanted = tuple(finders) if prefer == "auto" else (prefer,)
    for key in wanted:
        program = finders[key]()
        if program is not None:
            return BrokerProcess(folder, program)
    raise BrokerUnavailableError(
        f"no MQTT broker found (looked for {' and '.join(wanted)}): install Mosquitto "
        "(apt-get install mosquitto, brew install mosquitto) or amqtt (pip install amqtt)"
    )


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

    return BrokerProgram(f"Mosquitto {version[1]}", command, {})


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
    return BrokerProgram(name, command, environment)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on now: MQTT's own if it can be."""
    if is_free(MQTT_PORT):
        return MQTT_PORT
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def is_free(port: int) -> bool:
    """Return whether a broker could listen on 127.0.0.1:port now.

    Asked before each start, so that a stranger's broker is not taken for ours.
    """
    with socket.socket() as probe:
        # As the brokers do: connections of the last run that linger in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def accepts_mqtt(port: int, timeout_s: float = 1.0) -> bool:
    """Return whether 127.0.0.1:port answers an MQTT 3.1.1 CONNECT with an accepting CONNACK."""
    client_id = f"escalon-probe-{os.getpid()}".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x05" + len(client_id).to_bytes(2, "big") + client_id
    try:
        with socket.create_connection((HOST, port), timeout_s) as connection:
            connection.sendall(b"\x10" + bytes([len(body)]) + body)
            with connection.makefile("rb") as reader:
                accepted = reader.read(4) == b"\x20\x02\x00\x00"
            connection.sendall(b"\xe0\x00")
    except OSError:
        return False
    return accepted
