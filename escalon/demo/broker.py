"""The MQTT broker that ``escalon demo`` starts as an OS process of its own.

Mosquitto where it is installed, with its own configuration file, port and folder; otherwise amqtt
(see ``embedded_broker.py``). Both listen on 127.0.0.1 only. The broker outlives nothing: whoever
starts it stops it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from escalon.demo.broker_programs import HOST, BrokerProgram, find_amqtt, find_mosquitto
from escalon.demo.interrupts import deferred_interrupts
from shared.errors import EscalonError

MQTT_PORT = 1883
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
START_ATTEMPTS = 5
POLL_INTERVAL_S = 0.02
LOG_TAIL_LINES = 8


class BrokerUnavailableError(EscalonError):
    """No broker is installed, or the one that is does not start."""


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
        self._log_start = 0

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

    def check(self) -> None:
        """Look whether the broker lives.

        Raises:
            BrokerUnavailableError: it does not; with the end of its log.
        """
        if self.process is not None and self.process.poll() is not None:
            raise BrokerUnavailableError(
                f"the broker ({self.name}) ended with code {self.process.returncode}. The last "
                f"lines of {self.log_path}:\n{self._log_tail()}"
            )

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
        with deferred_interrupts():
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
            self._log_start = log.tell()
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

    def _wait_until_ready(
        self, process: subprocess.Popen[bytes], port: int, deadline: float
    ) -> bool:
        while time.monotonic() < deadline:
            # A stranger on our port answers too, before our child has failed to bind: so the
            # child's own word comes first.
            if self._says_ready() and accepts_mqtt(port):
                return process.poll() is None
            try:
                process.wait(POLL_INTERVAL_S)
            except subprocess.TimeoutExpired:
                continue
            return False
        return False

    def _says_ready(self) -> bool:
        said = self.log_path.read_bytes()[self._log_start :].decode(errors="replace")
        return re.search(self._program.ready_pattern, said) is not None

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
