"""A PostgreSQL server of our own: Debian's programs, in a temporary folder, on a Unix socket."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.fakes import wait_until

USER = "escalon"
DEBIAN = Path("/usr/lib/postgresql")
MISSING = "PostgreSQL is not installed (apt-get install postgresql)"

_numbers = itertools.count(1)


def find_programs() -> Path | None:
    """Returns the folder of initdb and postgres, or None where they are not installed."""
    folders = sorted(DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name.partition(".")[0]))
    on_path = shutil.which("postgres")
    if on_path is not None:
        folders.append(Path(on_path).resolve().parent)
    usable = (each for each in reversed(folders) if (each / "initdb").exists())
    return next((each for each in usable if (each / "postgres").exists()), None)


class Cluster:
    """A running server.

    Attributes:
        socket: the folder of its socket.
        process: its first process.
    """

    def __init__(self, socket: Path, process: subprocess.Popen[bytes]) -> None:
        self.socket = socket
        self.process = process

    def new_database(self) -> str:
        """Makes an empty database; returns its URL."""
        name = f"escalon_{next(_numbers)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://{USER}@/{name}?host={self.socket}"

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(host=str(self.socket), user=USER, dbname="postgres", autocommit=True)

    def accepts(self) -> bool:
        assert self.process.poll() is None, "PostgreSQL has ended"
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def running_cluster(programs: Path) -> Iterator[Cluster]:
    """Starts a server with an empty cluster; ends it afterwards. It never runs as root."""
    folder = Path(tempfile.mkdtemp(prefix="escalon-pg-"))
    owner = _owner()
    if owner is not None:
        os.chown(folder, owner, -1)
    data = folder / "data"
    try:
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "-N", "-E", "UTF8"],
            user=owner, cwd=folder, check=True, capture_output=True,
        )  # fmt: skip
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses="],
            user=owner, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        cluster = Cluster(folder, process)
        try:
            wait_until(cluster.accepts, "PostgreSQL accepts connections")
            yield cluster
        finally:
            process.send_signal(signal.SIGQUIT)  # at once: nobody needs what is in it
            process.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> int | None:
    """Returns whom it runs as where we are root: it refuses to be."""
    if os.getuid() != 0:
        return None
    known = {each.pw_name: each.pw_uid for each in pwd.getpwall()}
    return known.get("postgres", known["nobody"])
