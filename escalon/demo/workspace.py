"""The demo's folder: keys, data, state and logs of one run, and the models that outlive it."""

from __future__ import annotations

import fcntl
import shutil
import time
from pathlib import Path
from typing import IO

import numpy as np

from escalon.demo.digits import Scans, delivered, split
from shared.durable import write_durably
from shared.errors import EscalonError
from shared.releases.keys import load_private_key, new_key_pem
from shared.releases.trust import found_trust

LOCK = "escalon-demo.lock"


class WorkspaceError(EscalonError):
    """The folder cannot be used."""


class Workspace:
    """A folder for one demo at a time.

    ``run/`` is made anew by each demo; ``first-models/`` keeps what the trainer made for a seed.

    Args:
        root: usually ``.escalon/demo``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._lock: IO[str] | None = None

    @property
    def run(self) -> Path:
        """State of this run."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.run / "logs"

    @property
    def data(self) -> Path:
        """The split data set."""
        return self.run / "data"

    @property
    def ledger(self) -> Path:
        """What the sensors sent."""
        return self.run / "ledger.npz"

    def first_job(self, seed: int) -> Path:
        """Where the first models for a seed are trained and kept."""
        return self.root / "first-models" / f"seed-{seed}"

    def environment(self, seed: int, broker_url: str) -> dict[str, str]:
        """Returns the variables that the YAML files under configs/demo refer to."""
        return {
            "ESCALON_BROKER": broker_url,
            "ESCALON_STATE": str(self.run),
            "ESCALON_FIRST_JOB": str(self.first_job(seed)),
        }

    def acquire(self) -> None:
        """Takes the folder and empties what an earlier run left.

        Raises:
            WorkspaceError: another demo runs in it, or it is not a folder of the demo's.
        """
        try:
            self._claim()
        except OSError as error:
            raise WorkspaceError(
                f"{self.root} cannot be used: {error.strerror}. Give another --workdir"
            ) from error
        self._lock = (self.root / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise WorkspaceError(
                f"another demo runs in {self.root}: end it, or give another --workdir"
            ) from error
        shutil.rmtree(self.run, ignore_errors=True)
        self.logs.mkdir(parents=True)

    def _claim(self) -> None:
        """Makes the folder the demo's. What a user keeps in a ``run/`` is nobody's to delete."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = self.root / LOCK
        if not lock.exists() and self.run.exists() and any(self.run.iterdir()):
            raise WorkspaceError(
                f"{self.run} was not made by the demo, which would empty it: give an empty or a "
                "new folder as --workdir"
            )
        lock.touch()

    def release(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def prepare(self, seed: int) -> None:
        """Writes the keys with their trust file and the data set, split by the seed."""
        self._write_keys()
        scans = split(seed)
        calibration = delivered(scans.calibration.pixels, np.random.default_rng(seed))
        self.data.mkdir()
        self._save("train", scans.train)
        self._save("calibration", Scans(calibration, scans.calibration.digits))
        self._save("field", scans.field)
        self._save("fresh", scans.fresh)

    def _write_keys(self) -> None:
        folder = self.run / "keys"
        pems = {name: new_key_pem() for name in ("root", "release")}
        for name, pem in pems.items():
            write_durably(folder / f"{name}.key", pem)
            (folder / f"{name}.key").chmod(0o600)
        root, release = (load_private_key(pem) for pem in pems.values())
        write_durably(folder / "trust.signed", found_trust([root], [release], time.time()))

    def _save(self, name: str, scans: Scans) -> None:
        np.savez(self.data / f"{name}.npz", x=scans.pixels, y=scans.digits)
